"""No room: rows are dropped, counted, and told; and what was written before is never touched."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from tests.unit.journals import TIME, Allocator, all_rows, new_writer, read_all, row, small
from tracker_client.journal import supply
from tracker_client.journal.frames import Method
from tracker_client.journal.writer import JournalWriter


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "PATIENCE_SECONDS", 0.0)


def _fill(writer: JournalWriter, keeper: Allocator) -> list[int]:
    """Logs until rows are dropped; the steps that were taken."""
    keeper.may = False
    taken = []
    step = 0
    while not writer.dropped:
        points = writer.points
        writer.append({"a": step, "b": 1.0}, step, TIME)
        if writer.points > points:
            taken.append(step)
        step += 1
    return taken


def test_what_finds_no_room_is_told_as_a_void_write_once_there_is(tmp_path: Path) -> None:
    with small():
        writer, keeper = new_writer(tmp_path)
        taken = _fill(writer, keeper)
        for step in range(1000, 1010):
            writer.append({"a": 0.0, "b": 1.0}, step, TIME)
        assert writer.dropped == 22
        assert writer.open_since() is not None
        writer.end_batch()
        keeper.may = True
        keeper.wake()
        writer.append({"a": 5.0, "b": 1.0}, 2000, TIME)
        writer.end_batch()
        last = writer.close()
    expected = [row({"a": step, "b": 1.0}, step) for step in [*taken]]
    assert all_rows(writer.folder) == [*expected, row({"a": 5.0, "b": 1.0}, 2000)]
    batches = read_all(writer.folder)
    assert sum(batch.dropped for batch in batches) == 22
    assert [batch.sequence for batch in batches] == list(range(1, last + 1))
    assert writer.points == 2 * len(taken) + 2


def test_a_full_journal_is_closed_without_another_segment(tmp_path: Path) -> None:
    """The disk may be full: what ends a journal has had its room all along."""
    with small():
        for filler in range(4):
            writer, keeper = new_writer(tmp_path / str(filler))
            for _ in range(filler):
                writer.append({"c": 0.0}, 0, TIME)
            taken = _fill(writer, keeper)
            last = writer.close()
            writer.release()
            batches = read_all(writer.folder)
            assert sum(batch.dropped for batch in batches) == writer.dropped == 2
            assert [batch.sequence for batch in batches] == list(range(1, last + 1))
            assert sum(batch.points for batch in batches) == 2 * len(taken) + filler == writer.points


def test_a_dropped_row_uses_up_its_step(tmp_path: Path) -> None:
    """Else the steps after an outage would be those of other rows."""
    with small():
        writer, keeper = new_writer(tmp_path)
        keeper.may = False
        for _ in range(500):
            writer.append({"a": 1.0}, None, TIME)
        assert writer.dropped
        assert writer.next_step == 500


def test_a_row_waits_once_for_a_segment_and_then_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "PATIENCE_SECONDS", 0.05)
    wait = supply.SegmentSupply._wait
    waits = []

    def timed(segments: supply.SegmentSupply) -> bool:
        began = time.monotonic()
        arrived = wait(segments)
        waits.append(time.monotonic() - began)
        return arrived

    monkeypatch.setattr(supply.SegmentSupply, "_wait", timed)
    with small():
        writer, keeper = new_writer(tmp_path)
        keeper.may = False
        for step in range(2000):
            writer.append({"a": 1.0}, step, TIME)
        assert writer.dropped > 1000
    (waited,) = waits
    assert waited >= 0.05


def test_a_segment_that_comes_in_time_costs_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "PATIENCE_SECONDS", 5.0)
    with small():
        writer, _ = new_writer(tmp_path)
        for step in range(2000):
            writer.append({"a": 1.0}, step, TIME)
        assert writer.dropped == 0


def test_a_message_makes_a_segment_for_itself(tmp_path: Path) -> None:
    with small():
        writer, keeper = new_writer(tmp_path)
        _fill(writer, keeper)
        writer.message(Method.RUN_COMPLETED, lambda _: b"x" * 1000)
        last = writer.close()
    batches = read_all(writer.folder)
    assert [batch.request for batch in batches if batch.method] == [b"x" * 1000]
    assert [batch.sequence for batch in batches] == list(range(1, last + 1))
    assert sum(batch.dropped for batch in batches) == writer.dropped


def test_a_message_without_room_on_disk_is_an_error_and_leaves_no_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small():
        writer, keeper = new_writer(tmp_path)
        _fill(writer, keeper)

        def full(_: int, __: int, ___: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            before = writer.folder.segment_numbers()
            with pytest.raises(OSError, match="No space left"):
                writer.message(Method.UPDATE_RUN, lambda _: b"x" * 1000)
            assert writer.folder.segment_numbers() == before
        writer.message(Method.UPDATE_RUN, lambda _: b"y" * 1000)
        last = writer.close()
    batches = read_all(writer.folder)
    assert [batch.sequence for batch in batches] == list(range(1, last + 1))
    assert [batch.request for batch in batches if batch.method] == [b"y" * 1000]


def test_after_the_end_rows_are_dropped_and_messages_refused(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    writer.append({"a": 1.0}, 0, TIME)
    assert writer.close() == writer.close() == 1
    writer.append({"a": 2.0}, 1, TIME)
    assert writer.dropped == 1
    with pytest.raises(OSError, match="the journal is closed"):
        writer.message(Method.UPDATE_RUN, lambda _: b"")
    assert writer.open_since() is None
    assert writer.end_batch()
    writer.release()
    writer.append({"a": 2.0}, 1, TIME)
    assert all_rows(writer.folder) == [row({"a": 1.0}, 0)]


def test_letting_go_removes_unused_segments_and_frees_the_lock(tmp_path: Path) -> None:
    with small():
        writer, _ = new_writer(tmp_path)
        for step in range(300):
            writer.append({"a": 1.0}, step, TIME)
        writer.close()
        assert writer.folder.owned()
        writer.release()
    assert not writer.folder.owned()
    assert not writer.supply.spares
    assert not writer.retired
    assert sum(batch.points for batch in read_all(writer.folder)) == 300
    assert len(writer.folder.segment_numbers()) == max(batch.segment for batch in read_all(writer.folder))
