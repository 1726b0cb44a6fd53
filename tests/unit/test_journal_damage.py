"""A journal that is torn or spoilt, at every single place: what is whole is read, and nothing is made up."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.unit.journals import IDENTITY, TIME, Row, new_writer, read_all, row, rows_of, small
from tracker_client.journal import frames
from tracker_client.journal.folder import JournalFolder
from tracker_client.journal.frames import FRAME_HEADER, PREFIX, Kind, Method
from tracker_client.journal.reader import JournalReader

_LOGGED = [
    ({"a": 1.5}, 0),
    ({"a": -1.0}, 1),
    ({"a": 0.25, "b": 3.0}, 2),
    ({"a": 7.0}, 3),
    ({"b": 1e300, "😀": -0.0}, 4),
]


@pytest.fixture
def journal(tmp_path: Path) -> JournalFolder:
    """Two batches of rows around a message, in a segment that has little more room than that."""
    with small(segment_bytes=2048):
        writer, _ = new_writer(tmp_path)
        for metrics, step in _LOGGED:
            writer.append(metrics, step, TIME)
            if step == 1:
                writer.message(Method.UPDATE_RUN, lambda _: b"a request")
        writer.close()
        writer.release()
    return writer.folder


def _frames(data: bytes) -> list[tuple[int, int, int]]:
    """Start, end of the payload, and kind, of each frame of a whole segment."""
    found = frames.decode_segment_header(data)
    assert found is not None
    position, listed = found[1], []
    while (length := FRAME_HEADER.unpack_from(data, position)[0]) != 0:
        kind = PREFIX.unpack_from(data, position + FRAME_HEADER.size)[0] & 0xFF
        listed.append((position, position + FRAME_HEADER.size + length, kind))
        position += frames.frame_size(length)
    return listed


def _copy(to: Path, data: bytes) -> JournalFolder:
    folder = JournalFolder(to)
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    folder.segment_path(1).write_bytes(data)
    return folder


def _rows(folder: JournalFolder) -> list[Row]:
    return [each for batch in read_all(folder) for each in rows_of(batch)]


def test_cut_off_at_every_byte_all_that_was_whole_before_is_read(journal: JournalFolder, tmp_path: Path) -> None:
    data = journal.segment_path(1).read_bytes()
    header_end = frames.decode_segment_header(data)
    assert header_end is not None
    listed = _frames(data)
    for size in range(len(data)):
        rows = _rows(_copy(tmp_path / "cut", data[:size]))
        if size < header_end[1]:
            assert rows == []
            continue
        whole = sum(1 for _, end, kind in listed if kind == Kind.POINTS and end <= size)
        assert rows == [row(metrics, step) for metrics, step in _LOGGED[:whole]], size


def test_zeros_from_every_byte_on_are_as_good_as_the_end(journal: JournalFolder, tmp_path: Path) -> None:
    """What a power cut leaves: pages that have not reached the disk."""
    data = journal.segment_path(1).read_bytes()
    listed = _frames(data)
    for size in range(listed[0][0], listed[-1][1] + 1):
        rows = _rows(_copy(tmp_path / "cut", data[:size].ljust(len(data), b"\0")))
        whole = sum(1 for _, end, kind in listed if kind == Kind.POINTS and not any(data[size:end]))
        assert rows == [row(metrics, step) for metrics, step in _LOGGED[: len(rows)]], size
        assert len(rows) >= min(whole, sum(1 for _, end, kind in listed if kind == Kind.POINTS and end <= size))


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_byte_spoilt_anywhere_costs_its_own_frame_and_nothing_else(
    journal: JournalFolder, tmp_path: Path, mask: int
) -> None:
    data = journal.segment_path(1).read_bytes()
    listed = _frames(data)
    points = [each for each in listed if each[2] == Kind.POINTS]
    everything = [row(metrics, step) for metrics, step in _LOGGED]
    schemas = [begin for begin, _, kind in listed if kind == Kind.SCHEMA]
    names_of = [{"a"}, {"a", "b"}, {"b", "😀"}]
    for at in range(listed[-1][1] + 16):
        spoilt = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
        rows = _rows(_copy(tmp_path / "spoilt", spoilt))
        hit = next(((begin, kind) for begin, end, kind in listed if begin <= at < end), None)
        lost: list[Row] = []
        if hit is not None and hit[1] == Kind.POINTS:
            lost = [everything[[begin for begin, _, _ in points].index(hit[0])]]
        elif hit is not None and hit[1] == Kind.SCHEMA:
            names = names_of[schemas.index(hit[0])]
            lost = [each for each in everything if set(each[0]) == names]
        assert rows == [each for each in everything if each not in lost], at


def test_a_spoilt_segment_amid_others_leaves_theirs(tmp_path: Path) -> None:
    with small():
        writer, _ = new_writer(tmp_path)
        for step in range(400):
            writer.append({"a": step}, step, TIME)
        writer.close()
        writer.release()
    everything = [row({"a": step}, step) for step in range(400)]
    for number in writer.folder.segment_numbers():
        path = writer.folder.segment_path(number)
        whole = path.read_bytes()
        theirs = [each for batch in read_all(writer.folder) if batch.segment == number for each in rows_of(batch)]
        path.write_bytes(b"\xa5" * len(whole))
        rest = [each for batch in read_all(writer.folder) for each in rows_of(batch)]
        assert Counter(rest) == Counter(everything) - Counter(theirs)
        path.write_bytes(whole)
    reader = JournalReader(writer.folder)
    assert reader.identity == IDENTITY
    reader.close()


def test_nothing_readable_is_nobodys(journal: JournalFolder) -> None:
    journal.segment_path(1).write_bytes(bytes(1024))
    reader = JournalReader(journal)
    assert reader.identity is None
    assert reader.next_batch(owned=False) is None
    reader.close()


def test_what_is_skipped_is_counted(journal: JournalFolder, tmp_path: Path) -> None:
    data = bytearray(journal.segment_path(1).read_bytes())
    begin, end, _ = next(each for each in _frames(bytes(data)) if each[2] == Kind.POINTS)
    data[begin + 20] ^= 0xFF
    reader = JournalReader(_copy(tmp_path / "spoilt", bytes(data)))
    while reader.next_batch(owned=False) is not None:
        pass
    reader.close()
    assert reader.skipped_bytes == frames.aligned(end - begin)
