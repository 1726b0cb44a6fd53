"""From a journal's batch to a request: protobuf reads exactly the rows that were logged, in their order where it matters."""

from __future__ import annotations

import itertools
import struct
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.journals import IDENTITY, TIME, Row, new_writer, read_all, row, rows_of
from tracker.v1 import tracker_service_pb2 as calls
from tracker_client.journal.frames import Method
from tracker_client.journal.reader import Batch, Rows
from tracker_client.sender import blocks
from tracker_client.sender.blocks import split_blocks
from tracker_client.sender.encode import encode_message, encode_points, encode_void

_metrics = st.dictionaries(st.sampled_from(["a", "b", "c", "𐍈/😀"]), st.floats(), min_size=1, max_size=4)
_rows = st.lists(st.tuples(_metrics, st.integers(0, 2), st.integers(TIME, TIME + 1)), min_size=1, max_size=40)


def _parsed(encoded: bytes) -> tuple[calls.LogMetricsRequest, list[Row]]:
    """A request, and the rows of its blocks, one block after the other."""
    request = calls.LogMetricsRequest.FromString(encoded)
    rows = [
        (
            tuple(column.name for column in block.columns),
            struct.pack(f"<qq{len(block.columns)}d", step, time, *(column.values[index] for column in block.columns)),
        )
        for block in request.blocks
        for index, (step, time) in enumerate(zip(block.steps, block.times_unix_ms, strict=True))
    ]
    assert all(len(column.values) == len(block.steps) for block in request.blocks for column in block.columns)
    return request, rows


def _batch(logged: list[tuple[dict[str, float], int, int]]) -> Batch:
    with tempfile.TemporaryDirectory() as directory:
        writer, _ = new_writer(Path(directory))
        for metrics, step, time_ms in logged:
            writer.append(metrics, step, time_ms)
        writer.close()
        writer.release()
        (batch,) = read_all(writer.folder)
    return batch


@settings(max_examples=150)
@given(_rows)
def test_protobuf_reads_exactly_the_rows_that_were_logged(logged: list[tuple[dict[str, float], int, int]]) -> None:
    batch = _batch(logged)
    request, rows = _parsed(encode_points(IDENTITY, batch, replay=False))
    assert (request.run_id, request.writer_id, request.sequence) == (IDENTITY.run_id, IDENTITY.writer_id, 1)
    assert (request.attempt, request.replay, request.dropped_points) == (IDENTITY.attempt, False, 0)
    assert Counter(rows) == Counter(row(*each) for each in logged)
    assert sum(len(block.steps) * len(block.columns) for block in request.blocks) == batch.points


@settings(max_examples=300)
@given(_rows)
def test_points_of_a_series_that_tie_keep_their_order(logged: list[tuple[dict[str, float], int, int]]) -> None:
    logged = [({name: float(number) for name in metrics}, *when) for number, (metrics, *when) in enumerate(logged)]  # type: ignore[misc]  # two integers
    _, rows = _parsed(encode_points(IDENTITY, _batch(logged), replay=False))
    before: dict[tuple[str, bytes], float] = {}
    for names, bits in rows:
        for name, value in zip(names, struct.unpack_from(f"<{len(names)}d", bits, 16), strict=True):
            assert before.get((name, bits[:16]), -1.0) < value
            before[name, bits[:16]] = value


def test_a_tie_across_schemas_gets_a_block_of_its_own() -> None:
    a, b = {"x": 1.0}, {"x": 2.0, "y": 0.0}
    tie = [(a, 0, TIME), (b, 0, TIME), (a, 0, TIME)]
    assert [len(block.rows) for block in split_blocks(_batch(tie))] == [1, 1, 1]
    later = [(a, 0, TIME), (b, 0, TIME), (a, 1, TIME), (b, 1, TIME), (a, 2, TIME)]
    assert [len(block.rows) for block in split_blocks(_batch(later))] == [3, 2]
    apart = [(a, 0, TIME), ({"z": 2.0}, 0, TIME), (a, 0, TIME)]
    assert [len(block.rows) for block in split_blocks(_batch(apart))] == [2, 1]


def test_ties_without_end_do_not_make_a_request_too_large() -> None:
    """A server takes 2 MiB; beyond a bound on what names cost again, rows are merged as before."""
    wide = tuple(f"{index:03d}{'x' * 250}" for index in range(200))
    narrow = (wide[0],)
    rows = {
        schema: struct.pack(f"<qq{len(names)}d", 0, TIME, *([0.0] * len(names)))
        for schema, names in ((0, wide), (1, narrow))
    }
    count = 200
    batch = Batch(1, 1, order=[0, 1] * count)
    batch.groups = {0: Rows(wide, [rows[0]] * count), 1: Rows(narrow, [rows[1]] * count)}
    merged = len(
        encode_points(IDENTITY, Batch(1, 1, groups=dict(batch.groups), order=[0] * count + [1] * count), replay=False)
    )
    split = encode_points(IDENTITY, batch, replay=False)
    assert merged < len(split) <= merged + blocks.EXTRA_BYTES
    _, parsed = _parsed(split)
    assert Counter(parsed) == {(wide, rows[0]): count, (narrow, rows[1]): count}


def test_many_schemas_without_a_common_name_are_one_block_each() -> None:
    logged = [({f"m{index % 300}": float(index)}, 0, TIME) for index in range(3000)]
    assert len(split_blocks(_batch(logged))) == 300


def test_the_same_batch_gives_the_same_bytes() -> None:
    logged = [({"a": 1.0, "b": 2.0} if index % 3 else {"b": 0.0}, 0, TIME) for index in range(30)]
    assert len({encode_points(IDENTITY, _batch(logged), replay=False) for _ in range(3)}) == 1
    batch = _batch(logged)
    assert encode_points(IDENTITY, batch, replay=False) == encode_points(IDENTITY, batch, replay=False)
    assert [names for names, _ in rows_of(batch)][:4] == [("b",), ("a", "b"), ("a", "b"), ("b",)]


def test_large_blocks_have_their_lengths_right() -> None:
    """Around the sizes at which a length takes one byte more."""
    for count in itertools.chain(range(14, 18), range(2046, 2050)):
        logged = [({"a": float(index)}, index, TIME) for index in range(count)]
        _, rows = _parsed(encode_points(IDENTITY, _batch(logged), replay=True))
        assert rows == [row(*each) for each in logged]


def test_a_void_write_says_how_much_is_lost() -> None:
    request = calls.LogMetricsRequest.FromString(encode_void(IDENTITY, 9, 123, replay=True))
    expected = calls.LogMetricsRequest(
        run_id=IDENTITY.run_id, writer_id=IDENTITY.writer_id, sequence=9, attempt=7, dropped_points=123, replay=True
    )
    assert request == expected


def test_a_message_is_sent_as_it_was_made_but_for_the_mark_of_a_replay() -> None:
    made = calls.StartRunRequest(run_id="run-1", sequence=1)
    batch = Batch(1, 1, method=Method.START_RUN, request=made.SerializeToString())
    assert encode_message(batch, replay=False) == batch.request
    made.replay = True
    assert calls.StartRunRequest.FromString(encode_message(batch, replay=True)) == made
