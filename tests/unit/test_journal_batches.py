"""How a journal is cut into batches: once, for good, and the same for every reader."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.journals import IDENTITY, TIME, Row, drain, new_writer, read_all, row, rows_of, small
from tracker_client.journal import writer as writer_module
from tracker_client.journal.frames import Method
from tracker_client.journal.reader import Batch, JournalReader
from tracker_client.sender.encode import encode_message, encode_points

_schemas = ({"a": 1.0}, {"b": 2.0, "a": 3.0}, {f"m{index}": float(index) for index in range(9)})
_commands = st.lists(
    st.sampled_from(["append 0", "append 1", "append 2", "end", "message", "read", "restart"]), max_size=150
)


def _request(batch: Batch) -> bytes:
    if batch.method is not None:
        return encode_message(batch, replay=False)
    return encode_points(IDENTITY, batch, replay=False)


def test_a_batch_is_cut_at_a_mebibyte_of_its_encoding(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    for step in range(30_000):
        writer.append(_schemas[2], step, TIME)
        if step % 1000 == 0:
            # A schema of many single metrics: what each block costs counts too.
            writer.append({f"single {step}": 1.0}, step, TIME)
    writer.close()
    sizes = [len(_request(batch)) for batch in read_all(writer.folder)]
    # Some end with their segment before that.
    assert 2**20 - 300 < max(sizes) <= 2**20 + 300


def test_the_encoding_of_many_small_blocks_stays_within_the_bound(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    for index in range(20_000):
        writer.append({f"{index:05d}": 1.0}, 0, TIME)
    writer.close()
    sizes = [len(_request(batch)) for batch in read_all(writer.folder)]
    assert len(sizes) > 1
    assert max(sizes) <= 2**20 + 300


def test_a_batch_that_is_due_is_closed_with_the_one_row_it_has(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    reader = JournalReader(writer.folder)
    writer.append({"a": 1.0}, 0, TIME)
    assert writer.open_since() is not None
    assert reader.next_batch(owned=True) is None
    assert writer.end_batch()
    assert writer.open_since() is None
    batch = reader.next_batch(owned=True)
    assert batch is not None
    assert rows_of(batch) == [row({"a": 1.0}, 0)]
    assert reader.next_batch(owned=True) is None
    reader.close()


def test_a_dead_process_leaves_its_open_batch_closed(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    writer.append({"a": 1.0}, 0, TIME)
    reader = JournalReader(writer.folder)
    assert reader.next_batch(owned=True) is None
    batch = reader.next_batch(owned=False)
    assert batch is not None
    assert rows_of(batch) == [row({"a": 1.0}, 0)]
    assert reader.closed_at is None
    assert reader.highest == 1
    reader.close()


@settings(max_examples=120)
@given(_commands)
def test_however_it_is_written_and_read_every_reader_gets_the_same_batches(commands: list[str]) -> None:
    """A model: rows in the order in which they were logged; what was ended before a read is handed out by it."""
    with small(), tempfile.TemporaryDirectory() as directory:
        writer, _ = new_writer(Path(directory))
        reader = JournalReader(writer.folder)
        logged: list[Row] = []
        ended = 0
        got: list[Batch] = []
        for step, command in enumerate(commands):
            if command.startswith("append"):
                metrics = _schemas[int(command[-1])]
                writer.append(metrics, step, TIME)
                logged.append(row(metrics, step))
            elif command == "end":
                assert writer.end_batch()
                ended = len(logged)
            elif command == "message":
                writer.message(Method.UPDATE_RUN, lambda sequence: b"%d" % sequence)
                ended = len(logged)
            elif command == "read":
                got += drain(reader, owned=True)
                assert sum(len(rows_of(batch)) for batch in got) >= ended
            else:
                reader.close()
                reader = JournalReader(writer.folder)
                got = drain(reader, owned=True)
        last = writer.close()
        got += drain(reader, owned=True)
        assert reader.closed_at == last
        reader.close()
        assert [each for batch in got for each in rows_of(batch)] == logged
        assert [batch.sequence for batch in got] == list(range(1, last + 1))
        again = read_all(writer.folder)
        assert [_request(batch) for batch in again] == [_request(batch) for batch in got]
        assert [batch.segment for batch in again] == [batch.segment for batch in got]
        assert sum(batch.points for batch in again) == writer.points
        assert all(batch.request == b"%d" % batch.sequence for batch in again if batch.method)
        writer.release()


def test_a_batch_never_lies_in_two_segments(tmp_path: Path) -> None:
    """So a segment can go as soon as its batches have arrived: those of the others are whole without it."""
    with small(batch_bytes=writer_module.BATCH_BYTES):
        writer, _ = new_writer(tmp_path)
        for step in range(500):
            writer.append(_schemas[step % 3], step, TIME)
        writer.close()
    before = {batch.sequence: _request(batch) for batch in read_all(writer.folder)}
    for number in writer.folder.segment_numbers()[:-1]:
        writer.folder.segment_path(number).unlink()
        rest = read_all(writer.folder)
        assert all(before[batch.sequence] == _request(batch) for batch in rest)
        assert [batch.sequence for batch in rest] == list(before)[-len(rest) :] or not rest


def test_what_is_left_of_a_journal_tells_the_last_sequence(tmp_path: Path) -> None:
    """The last segment may be empty but for its header, and those before it sent and deleted."""
    with small():
        writer, keeper = new_writer(tmp_path)
        while writer.folder.segment_numbers()[0] == 1 and not writer.retired:
            writer.append(_schemas[2], 0, TIME)
        used = read_all(writer.folder)
    assert keeper.wakes
    current = writer._segment.number
    for number in writer.folder.segment_numbers():
        if number < current:
            writer.folder.segment_path(number).unlink()
    reader = JournalReader(writer.folder)
    drain(reader, owned=False)
    assert reader.highest >= used[-1].sequence - 1
    reader.close()


def test_a_segment_with_a_spoilt_header_is_not_passed_over_while_its_process_lives(tmp_path: Path) -> None:
    with small():
        writer, _ = new_writer(tmp_path)
        for step in range(200):
            writer.append({"a": step}, step, TIME)
        writer.end_batch()
    first = writer.folder.segment_path(1)
    with first.open("r+b") as file:
        file.write(b"\xff")
    reader = JournalReader(writer.folder)
    assert reader.identity == IDENTITY
    rows = [each for batch in drain(reader, owned=True) for each in rows_of(batch)]
    reader.close()
    assert rows == [row({"a": step}, step) for step in range(200)]
