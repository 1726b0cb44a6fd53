"""Signals, threads and forks in the middle of logging: every row that was logged is there, once."""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.journals import IDENTITY, TIME, all_rows, drain, new_writer, read_all, row, rows_of, small
from tracker_client.journal import supply
from tracker_client.journal.frames import Method
from tracker_client.journal.reader import JournalReader
from tracker_client.journal.writer import JournalWriter
from tracker_client.keeper import Keeper
from tracker_client.reporter import OnError, Reporter
from tracker_client.run import Run
from tracker_client.run_journal import RunJournal
from tracker_client.settings import Mode, Settings

# Its own way with SIGALRM would be in the way of these.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Others use this machine too: no row shall be dropped because the keeper's turn came late.

    And what a handler raises shall not be swallowed, as it is when it has interrupted a callback of the collector.
    """
    monkeypatch.setattr(supply, "PATIENCE_SECONDS", 10.0)
    gc.disable()
    yield
    gc.enable()


@contextmanager
def _storm(handler: Callable[[], object], seconds: float) -> Iterator[None]:
    """Calls a handler, as signals do, again and again."""
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _values(writer: JournalWriter) -> list[float]:
    return [struct.unpack_from("<d", bits, 16)[0] for _, bits in all_rows(writer.folder)]


def test_a_handler_that_logs_in_a_storm_of_signals_loses_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    keeper = Keeper(tmp_path, None, 2**30, said.append)
    with small(segment_bytes=64 * 1024, batch_bytes=4096):
        writer = JournalWriter(tmp_path, IDENTITY, keeper)
        keeper.add(writer)
        numbers = itertools.count()
        handled = 0

        def handler() -> None:
            nonlocal handled
            handled += 1
            for _ in range(3):
                writer.append({"handler": next(numbers)}, None, TIME)

        logged = 0
        until = time.monotonic() + 0.5
        with _storm(handler, 0.0002):
            while time.monotonic() < until:
                for _ in range(20):
                    writer.append({"main": -float(logged)}, None, TIME)
                    logged += 1
                if logged % 400 == 0:
                    writer.message(Method.UPDATE_RUN, lambda _: b"request")
                    # Left to the others' segments.
                    time.sleep(0.001)
        writer.close()
    assert handled > 50
    rows = Counter(name for (name,), _ in all_rows(writer.folder))
    assert writer.dropped == 0
    assert rows == {"main": logged, "handler": 3 * handled}
    values = _values(writer)
    assert sorted(value for value in values if value > 0) == list(range(1, 3 * handled))
    keeper.remove(writer)
    assert said == []


def test_a_run_logs_from_a_handler_in_a_storm_of_signals(tmp_path: Path) -> None:
    reporter = Reporter(OnError.RAISE)
    journal = RunJournal(Settings(directory=tmp_path, mode=Mode.OFFLINE), "run-1", 1, reporter)
    run = Run(journal, reporter, experiment="", leads=True)
    run.log({"main": 0})
    counts: Counter[str] = Counter(main=1)

    def handler() -> None:
        run.log({"handler": {"nested": counts["handler/nested"]}})
        counts["handler/nested"] += 1
        run.config["signals"] = counts["handler/nested"]

    until = time.monotonic() + 0.4
    with _storm(handler, 0.0005):
        while time.monotonic() < until:
            run.log({"main": 1.0}, step=None)
            counts["main"] += 1
    writer = journal.writer
    assert writer is not None
    run.finish()
    assert Counter(names[0] for names, _ in all_rows(writer.folder)) == counts
    changes = [batch for batch in read_all(writer.folder) if batch.method is Method.UPDATE_RUN]
    assert len(changes) == counts["handler/nested"]


class _Interrupted(BaseException):
    """What a handler raises, like KeyboardInterrupt."""


def test_exceptions_out_of_handlers_cost_at_most_the_row_being_logged(tmp_path: Path) -> None:
    """While a reader looks on, which must not see what is taken back."""

    def handler() -> None:
        raise _Interrupted

    said: list[str] = []
    with small(segment_bytes=4096, batch_bytes=1024):
        keeper = Keeper(tmp_path, None, 2**30, said.append)
        writer = JournalWriter(tmp_path, IDENTITY, keeper)
        keeper.add(writer)
        reader = JournalReader(writer.folder)
        certain: list[float] = []
        doubtful: set[float] = set()
        seen = []
        rng = random.Random(7)
        until = time.monotonic() + 1.5
        number = 0
        while time.monotonic() < until:
            try:
                # One at a time: our own bookkeeping shall not be interrupted for long.
                signal.signal(signal.SIGALRM, lambda *_: handler())
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 200e-6))
                for _ in range(60):
                    number += 1
                    doubtful.add(float(number))
                    metrics = {"a": float(number)} if number % 7 else {"a": float(number), "b": 1.0}
                    writer.append(metrics, number, TIME)
                    certain.append(float(number))
                    if number % 31 == 0:
                        writer.end_batch()
                while True:
                    time.sleep(0.001)
            except _Interrupted:
                pass
            if number % 5 == 0:
                seen += drain(reader, owned=True)
        last = writer.close()
        seen += drain(reader, owned=True)
        reader.close()
        keeper.remove(writer)
    values = [struct.unpack_from("<d", bits, 16)[0] for batch in seen for _, bits in rows_of(batch)]
    assert len(certain) > 1000
    assert len(values) == len(set(values))
    assert (writer.dropped, said) == (0, [])
    assert set(certain) <= set(values) <= doubtful
    assert values == sorted(values)
    assert [batch.sequence for batch in seen] == list(range(1, last + 1))
    assert [rows_of(batch) for batch in read_all(writer.folder)] == [rows_of(batch) for batch in seen]


def test_a_handler_that_ends_the_journal_ends_it_whatever_it_has_interrupted(tmp_path: Path) -> None:
    """As SIGTERM does: an end of what was going on, a message, the close; and then the process is gone."""
    rng = random.Random(11)
    interrupted = 0
    for attempt in range(150):
        with small(segment_bytes=4096, batch_bytes=512):
            writer, _ = new_writer(tmp_path / str(attempt))
            certain: list[float] = []

            def handler(writer: JournalWriter = writer) -> None:
                nonlocal interrupted
                interrupted += writer._busy
                writer.interrupt()
                writer.append({"last": -1.0}, None, TIME)
                writer.message(Method.RUN_COMPLETED, lambda sequence: b"%d" % sequence)
                writer.close()
                raise _Interrupted

            signal.signal(signal.SIGALRM, lambda *_, handler=handler: handler())
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(20e-6, 400e-6))
                for number in itertools.count():
                    writer.append({"a": float(number)}, number, TIME)
                    certain.append(float(number))
            except _Interrupted:
                pass
            batches = read_all(writer.folder)
            last = writer.close()
            writer.release()
        values = [struct.unpack_from("<d", bits, 16)[0] for batch in batches for _, bits in rows_of(batch)]
        assert values.pop() == -1.0
        assert certain == list(range(len(certain)))
        assert values in (certain, [*certain, float(len(certain))])
        assert [batch.sequence for batch in batches] == list(range(1, last + 1))
        assert [batch.request for batch in batches if batch.method] == [b"%d" % last]
    assert interrupted > 30


def test_a_handler_that_ends_the_journal_and_returns_spoils_nothing(tmp_path: Path) -> None:
    """What it has interrupted goes on, and must not write behind the end."""
    rng = random.Random(13)
    for attempt in range(100):
        with small(segment_bytes=4096, batch_bytes=512):
            writer, _ = new_writer(tmp_path / str(attempt))
            ended: list[int] = []
            taken = 0

            def handler(writer: JournalWriter = writer, ended: list[int] = ended) -> None:
                writer.message(Method.RUN_COMPLETED, lambda sequence: b"%d" % sequence)
                ended.append(writer.close())

            signal.signal(signal.SIGALRM, lambda *_, handler=handler: handler())
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(20e-6, 300e-6))
                while not ended:
                    writer.append({"a": float(taken)}, taken, TIME)
                    taken += 1
            except (struct.error, ValueError, IndexError):
                pass  # the journal went away under it
            batches = read_all(writer.folder)
            writer.release()
        assert [batch.sequence for batch in batches] == list(range(1, ended[0] + 1))
        assert batches[-1].request == b"%d" % ended[0]
        values = [struct.unpack_from("<d", bits, 16)[0] for batch in batches for _, bits in rows_of(batch)]
        assert values == list(range(len(values)))
        assert taken - 1 <= len(values) + 1


def test_what_a_handler_logs_wrongly_is_told_there_and_not_to_what_it_interrupted(tmp_path: Path) -> None:
    writer, keeper = new_writer(tmp_path)
    told = []

    class Nosy:
        def wake(self) -> None:
            # Called in the midst of append, as a handler would be.
            for metrics in ({"bad": "text"}, {"": 1.0}, {"good": 1.0}):
                try:
                    writer.append(metrics, None, TIME)
                except (struct.error, ValueError) as error:
                    told.append(type(error))

    assert keeper.may
    writer._keeper = Nosy()
    writer.append({"a": 1.0}, 5, TIME)
    writer._keeper = keeper
    writer.close()
    assert told == [struct.error, ValueError]
    assert all_rows(writer.folder) == [row({"a": 1.0}, 5), row({"good": 1.0}, 6)]


def test_what_a_handler_logs_while_a_request_is_written_follows_it_at_once(tmp_path: Path) -> None:
    writer, keeper = new_writer(tmp_path)

    class Nosy:
        def wake(self) -> None:
            writer._keeper = keeper
            writer.append({"a": 1.0}, 5, TIME)
            writer.message(Method.UPDATE_RUN, lambda _: b"second")

    writer._keeper = Nosy()
    writer.message(Method.UPDATE_RUN, lambda _: b"first")
    batches = read_all(writer.folder, owned=True)
    assert [batch.request for batch in batches] == [b"first", b"", b"second"]
    assert rows_of(batches[1]) == [row({"a": 1.0}, 5)]


def test_several_threads_log_side_by_side(tmp_path: Path) -> None:
    said: list[str] = []
    keeper = Keeper(tmp_path, None, 2**30, said.append)
    writer = JournalWriter(tmp_path, IDENTITY, keeper)
    keeper.add(writer)

    def work(thread: int) -> None:
        for step in range(1500):
            writer.append({f"thread {thread % 3}": thread * 10_000.0 + step}, None, TIME)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert sorted(_values(writer)) == sorted(thread * 10_000 + step for thread in range(6) for step in range(1500))
    steps = [struct.unpack_from("<q", bits)[0] for _, bits in all_rows(writer.folder)]
    assert sorted(steps) == list(range(9000))
    keeper.remove(writer)
    assert said == []


def test_the_child_of_a_fork_has_a_journal_of_its_own_and_leaves_the_parents(tmp_path: Path) -> None:
    reporter = Reporter(OnError.RAISE)
    journal = RunJournal(Settings(directory=tmp_path, mode=Mode.OFFLINE), "run-1", 1, reporter)
    journal.append({"parent": 1.0}, 0, TIME)
    parent = journal.writer
    assert parent is not None
    parent.end_batch()
    before = parent.folder.segment_path(1).read_bytes()
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            journal.forked()
            journal.append({"child": 1.0}, 0, TIME)
            child = journal.writer
            assert child is not None
            assert child.folder.path != parent.folder.path
            os.write(ready[1], b".")
            os.read(go[0], 1)
            child.close()
            journal.release()
            status = 0
        finally:
            os._exit(status)
    os.read(ready[0], 1)
    assert parent.folder.segment_path(1).read_bytes() == before
    # The lock is the parent's alone: once it lets go, nobody has it, though the child lives.
    journal.close()
    journal.release()
    assert not parent.folder.owned()
    os.write(go[1], b".")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for descriptor in (*ready, *go):
        os.close(descriptor)
    assert all_rows(parent.folder) == [row({"parent": 1.0}, 0)]
