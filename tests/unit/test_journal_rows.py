"""What is written to a journal is read back, bit by bit."""

from __future__ import annotations

import math
import re
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.journals import IDENTITY, TIME, all_rows, new_writer, read_all, row, rows_of, small
from tracker_client.journal import frames
from tracker_client.journal.frames import Method, SegmentHeader
from tracker_client.journal.schema import Schema, TooWide, check_names

_names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
_metrics = st.dictionaries(_names, st.floats(), min_size=1, max_size=5)
_steps = st.integers(-(2**62), 2**62)


@pytest.mark.parametrize("width", [1, 10, 1_000, 10_000])
def test_rows_of_any_width_come_back(tmp_path: Path, width: int) -> None:
    writer, _ = new_writer(tmp_path)
    logged = [{f"m{column}": column / 3 + step for column in range(width)} for step in range(4)]
    for step, metrics in enumerate(logged):
        writer.append(metrics, step, TIME + step)
    writer.close()
    assert all_rows(writer.folder) == [row(metrics, step, TIME + step) for step, metrics in enumerate(logged)]
    assert writer.points == 4 * width


def test_odd_values_keep_their_bits(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    payload_nan = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]
    metrics = {"nan": payload_nan, "inf": math.inf, "-inf": -math.inf, "-0": -0.0, "tiny": 5e-324, "𐍈😀": 1.0}
    for step in (-(2**62), 2**62, -(2**63), 2**63 - 1, 0):
        writer.append(metrics, step, TIME)
    writer.close()
    assert all_rows(writer.folder) == [row(metrics, step) for step in (-(2**62), 2**62, -(2**63), 2**63 - 1, 0)]


@settings(max_examples=60)
@given(st.lists(st.tuples(_metrics, _steps), max_size=40), st.lists(st.integers(0, 3), max_size=40))
def test_any_rows_in_any_mixture_come_back_in_order(
    logged: list[tuple[dict[str, float], int]], again: list[int]
) -> None:
    logged += [logged[index] for index in again if index < len(logged)]
    with small(), tempfile.TemporaryDirectory() as directory:
        writer, _ = new_writer(Path(directory))
        for metrics, step in logged:
            writer.append(metrics, step, TIME)
        writer.close()
        assert all_rows(writer.folder) == [row(metrics, step) for metrics, step in logged]
        writer.release()


def test_rows_over_many_segments_come_back(tmp_path: Path) -> None:
    with small():
        writer, _ = new_writer(tmp_path)
        for step in range(1_000):
            writer.append({"a": step} if step % 3 else {"b": step, "a": 0.5}, step, TIME)
        writer.close()
    assert len(writer.folder.segment_numbers()) > 5
    assert writer.dropped == 0
    expected = [row({"a": step} if step % 3 else {"b": step, "a": 0.5}, step) for step in range(1_000)]
    assert all_rows(writer.folder) == expected


def test_names_are_known_in_each_segment_anew(tmp_path: Path) -> None:
    with small():
        writer, _ = new_writer(tmp_path)
        for step in range(300):
            writer.append({"a": step}, step, TIME)
        writer.close()
    for number in writer.folder.segment_numbers()[:2]:
        writer.folder.segment_path(number).unlink()
    rest = all_rows(writer.folder)
    assert rest
    assert rest == [row({"a": step}, step) for step in range(300)][-len(rest) :]


def test_a_step_that_is_not_given_is_one_after_the_last(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    for step in (None, None, 10, None, -5, None):
        writer.append({"a": 1.0}, step, TIME)
    writer.append_apart({"system/cpu": 1.0}, 99, TIME)
    writer.append({"a": 1.0}, None, TIME)
    writer.close()
    steps = [struct.unpack_from("<q", bits)[0] for _, bits in all_rows(writer.folder)]
    assert steps == [0, 1, 10, 11, -5, -4, 99, -3]


def test_a_row_with_a_bad_value_leaves_no_trace(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    writer.append({"a": 1.0, "b": 2.0}, 0, TIME)
    for bad in ({"a": 3.0, "b": "x"}, {"a": 1.0, "b": None}, {"a": 10**400, "b": 0.0}):
        with pytest.raises((struct.error, TypeError, OverflowError)):
            writer.append(bad, 1, TIME)
    for step in (2**63, "x", 1.5):
        with pytest.raises((struct.error, TypeError)):
            writer.append({"a": 3.0, "b": 4.0}, step, TIME)  # type: ignore[arg-type]  # that is the point
    writer.append({"a": 5.0}, 2, TIME)
    writer.close()
    assert all_rows(writer.folder) == [row({"a": 1.0, "b": 2.0}, 0), row({"a": 5.0}, 2)]
    assert writer.points == 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no metrics were given"),
        (("",), "the metric name '' has 0 characters; 1 to 256 are right"),
        (("x" * 257,), f"the metric name {'x' * 40!r} has 257 characters; 1 to 256 are right"),
        (("a", "b\n"), "the metric name 'b\\n' has control characters"),
        (("\x7f",), "the metric name '\\x7f' has control characters"),
        (("\x85",), "the metric name '\\x85' has control characters"),
        (("\ud800",), "the metric name '\\ud800' has a lone surrogate, which no UTF-8 can hold"),
    ],
)
def test_names_that_no_server_takes_are_told(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_names(names)


def test_a_name_that_is_no_text_is_told() -> None:
    with pytest.raises(TypeError, match="the metric name 5 is of type int; it must be str"):
        check_names((5,))  # type: ignore[arg-type]  # that is the point


def test_unusual_names_are_welcome() -> None:
    check_names(("x" * 256, "😀" * 256, "\u2028", "a b", "\u00a0", "é"))


def test_a_row_too_wide_for_a_batch_is_refused_whole(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    with pytest.raises(TooWide):
        writer.append({f"m{index}": 1.0 for index in range(20_000)}, 0, TIME)
    writer.append({"a": 1.0}, 0, TIME)
    writer.close()
    assert all_rows(writer.folder) == [row({"a": 1.0}, 0)]


def test_the_widest_row_fits_into_the_first_segment(tmp_path: Path) -> None:
    """Names of four-byte characters take three times their bytes in JSON."""
    writer, _ = new_writer(tmp_path)
    count = next(n for n in range(300, 0, -1) if _fits(n))
    metrics = {f"{'😀' * 252}{index:04d}": float(index) for index in range(count)}
    writer.append(metrics, 0, TIME)
    writer.close()
    (batch,) = read_all(writer.folder)
    assert batch.segment == 1
    assert rows_of(batch) == [row(metrics, 0)]


def _fits(count: int) -> bool:
    try:
        Schema(tuple(f"{'😀' * 252}{index:04d}" for index in range(count)))
    except TooWide:
        return False
    return True


def test_messages_come_back_with_the_sequence_they_were_made_for(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    for size in (0, 1, 7, 8, 300_000, frames.LARGEST_MESSAGE - 12):
        writer.message(Method.UPDATE_RUN, lambda sequence, size=size: bytes([sequence]) * size)  # type: ignore[misc]  # bound at once
        writer.append({"a": size}, 0, TIME)
    writer.close()
    messages = [batch for batch in read_all(writer.folder) if batch.method]
    assert [batch.method for batch in messages] == [Method.UPDATE_RUN] * 6
    assert [len(batch.request) for batch in messages] == [0, 1, 7, 8, 300_000, frames.LARGEST_MESSAGE - 12]
    assert all(set(batch.request) <= {batch.sequence} for batch in messages)


def test_a_request_that_no_server_takes_is_refused(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    with pytest.raises(OSError, match="servers take 1900000 at most"):
        writer.message(Method.UPDATE_RUN, lambda _: bytes(frames.LARGEST_MESSAGE))
    writer.append({"a": 1.0}, 0, TIME)
    assert writer.close() == 1
    assert all_rows(writer.folder) == [row({"a": 1.0}, 0)]


def test_a_segments_header_says_whose_it_is() -> None:
    header = SegmentHeader(IDENTITY, 3, 17, "boot")
    encoded = header.encode()
    assert len(encoded) % frames.ALIGNMENT == 0
    assert frames.decode_segment_header(encoded + bytes(100)) == (header, len(encoded))
    for end in range(len(encoded) - frames.ALIGNMENT):
        assert frames.decode_segment_header(encoded[:end]) is None
