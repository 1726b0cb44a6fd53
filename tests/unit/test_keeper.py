"""The thread that looks after journals: batches in time, segments ahead of time, and one journal's trouble its own."""

from __future__ import annotations

import errno
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.journals import IDENTITY, TIME, all_rows, drain, read_all, row, small
from tracker_client import keeper as keeper_module
from tracker_client.journal.reader import JournalReader
from tracker_client.journal.segment import Segment
from tracker_client.journal.writer import JournalWriter
from tracker_client.keeper import Keeper


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(keeper_module, "BATCH_SECONDS", 0.05)
    monkeypatch.setattr(keeper_module, "SYNC_SECONDS", 0.05)
    monkeypatch.setattr(keeper_module, "_RETRY_SECONDS", 0.05)
    with small():
        yield


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.002)


def _taken(writer: JournalWriter) -> int:
    """The points that it has taken, after one more row."""
    writer.append({"a": 2.0}, None, TIME)
    return writer.points


class _Kept:
    def __init__(
        self, directory: Path, *, journal_bytes: int = 2**30, sender: keeper_module.Sender | None = None
    ) -> None:
        self.said: list[str] = []
        self.keeper = Keeper(directory, sender, journal_bytes, self.said.append)

    def writer(self) -> JournalWriter:
        made = JournalWriter(self.keeper.directory, replace(IDENTITY, writer_id=str(uuid.uuid4())), self.keeper)
        self.keeper.add(made)
        return made


def test_a_single_row_is_on_its_way_soon(tmp_path: Path) -> None:
    kept = _Kept(tmp_path)
    writer = kept.writer()
    writer.append({"a": 1.0}, 0, TIME)
    reader = JournalReader(writer.folder)
    _until(lambda: drain(reader, owned=True))
    reader.close()
    kept.keeper.remove(writer)
    assert kept.said == []


def test_nothing_is_dropped_while_there_is_room(tmp_path: Path) -> None:
    kept = _Kept(tmp_path)
    writer = kept.writer()
    for step in range(3000):
        writer.append({"a": step}, step, TIME)
    writer.close()
    kept.keeper.remove(writer)
    assert (writer.dropped, kept.said) == (0, [])
    assert all_rows(writer.folder) == [row({"a": step}, step) for step in range(3000)]


def test_a_full_disk_is_told_once_and_got_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = _Kept(tmp_path)
    writer = kept.writer()
    _until(lambda: len(writer.supply.spares) == 2)

    def full(_: int, __: int, ___: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        while not writer.dropped:
            writer.append({"a": 1.0}, None, TIME)
        _until(lambda: len(kept.said) > 1)
    assert set(kept.said) == {
        f"no room for journals in {tmp_path} (No space left on device); new points are dropped until there is"
    }
    _until(lambda: writer.supply.spares)
    points = writer.points
    _until(lambda: _taken(writer) > points)
    writer.close()
    kept.keeper.remove(writer)
    batches = read_all(writer.folder)
    assert sum(batch.dropped for batch in batches) == writer.dropped > 0
    assert sum(batch.points for batch in batches) == writer.points


def test_journals_grow_to_their_limit_and_no_further(tmp_path: Path) -> None:
    kept = _Kept(tmp_path, journal_bytes=40_000)
    writer = kept.writer()
    other = kept.writer()
    for step in range(4000):
        writer.append({"a": 1.0}, step, TIME)
        if step % 100 == 0:
            time.sleep(0.001)
    assert writer.dropped
    assert writer.folder.size() + other.folder.size() <= 40_000
    full = f"the journals below {tmp_path} have grown to the 40000 bytes that they may have (TRACKER_JOURNAL_BYTES)"
    assert set(kept.said) == {f"{full}; new points are dropped until some are sent"}
    for each in (writer, other):
        each.close()
        kept.keeper.remove(each)


def test_what_was_dropped_is_told_as_soon_as_something_was_sent(tmp_path: Path) -> None:
    kept = _Kept(tmp_path, journal_bytes=30_000)
    writer = kept.writer()
    while not writer.dropped:
        writer.append({"a": 1.0}, None, TIME)
    for number in writer.folder.segment_numbers()[:-1]:
        writer.folder.segment_path(number).unlink()
    _until(lambda: writer.supply.spares)
    points = writer.points
    _until(lambda: _taken(writer) > points)
    _until(lambda: any(batch.dropped for batch in read_all(writer.folder, owned=True)))
    kept.keeper.remove(writer)


@pytest.mark.parametrize("raised", [OSError("disk"), ValueError("odd"), RuntimeError("odd"), IndexError("odd")])
def test_one_journals_trouble_is_not_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    kept = _Kept(tmp_path)
    spoilt, good = kept.writer(), kept.writer()

    def fail() -> None:
        raise raised

    monkeypatch.setattr(spoilt, "sync", fail)
    _until(lambda: len(kept.said) >= 2)
    good.append({"a": 1.0}, 0, TIME)
    _until(lambda: read_all(good.folder, owned=True))
    assert set(kept.said) == {f"the journal {spoilt.folder.path} cannot be kept: {raised}"}
    monkeypatch.undo()
    kept.keeper.remove(good)


def test_a_sender_that_cannot_be_looked_after_stops_nothing(tmp_path: Path) -> None:
    class Broken:
        def wanted(self) -> None:
            """Nothing goes wrong yet."""

        def look_after(self) -> None:
            raise PermissionError("not yours")

    kept = _Kept(tmp_path, sender=Broken())
    writer = kept.writer()
    _until(lambda: len(kept.said) >= 2)
    writer.append({"a": 1.0}, 0, TIME)
    _until(lambda: read_all(writer.folder, owned=True))
    assert set(kept.said) == {"the sender cannot be looked after: not yours"}
    kept.keeper.remove(writer)


def test_letting_go_waits_for_the_thread_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "LET_GO_SECONDS", 0.1)
    kept = _Kept(tmp_path)
    writer = kept.writer()
    hangs, hanging = threading.Event(), threading.Event()
    sync = Segment.sync

    def slow(segment: Segment) -> None:
        if segment.path.parent == writer.folder.path:
            hanging.set()
            hangs.wait(10)
        sync(segment)

    monkeypatch.setattr(Segment, "sync", slow)
    writer.append({"a": 1.0}, 0, TIME)
    assert hanging.wait(10)
    with pytest.raises(OSError, match="does not answer"):
        kept.keeper.remove(writer)
    hangs.set()
    assert kept.said == []


def test_runs_that_come_and_go_cause_no_trouble(tmp_path: Path) -> None:
    """The thread and the end of a run work on the same files."""
    kept = _Kept(tmp_path)
    for number in range(60):
        writer = kept.writer()
        for step in range(200):
            writer.append({"a": step}, step, TIME)
        if number % 3 == 0:
            time.sleep(0.005)
        writer.close()
        kept.keeper.remove(writer)
        assert not writer.folder.owned()
        assert sum(batch.points for batch in read_all(writer.folder)) == writer.points
    assert kept.said == []
    assert len(kept.keeper._threads) == 2
    assert all(thread.is_alive() for thread in kept.keeper._threads)


def test_a_journal_that_was_let_go_of_meanwhile_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is at work on one journal while the next on its list comes to its end."""
    kept = _Kept(tmp_path)
    slow, over = kept.writer(), kept.writer()
    hangs, hanging, again = threading.Event(), threading.Event(), threading.Event()
    sync = JournalWriter.sync

    def hang() -> None:
        (again if hanging.is_set() else hanging).set()
        hangs.wait(10)
        sync(slow)

    monkeypatch.setattr(slow, "sync", hang)
    assert hanging.wait(10)
    over.append({"a": 1.0}, 0, TIME)
    over.close()
    kept.keeper.remove(over)
    touched: list[str] = []
    monkeypatch.setattr(over, "sync", lambda: touched.append("sync"))
    monkeypatch.setattr(over.supply, "wanted", lambda: touched.append("wanted"))
    hangs.set()
    # It has been through its list, and begun anew.
    assert again.wait(10)
    assert (touched, kept.said) == ([], [])
    kept.keeper.remove(slow)
