"""The two threads that a training process has of us: one allocates segments and closes batches, one syncs to disk.

All of it is short, and most of it waits for the disk without holding the interpreter. A sync may take long on a busy disk,
and nobody may wait for it: neither rows, for the next segment, nor batches, for their end.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from tracker_client.journal.folder import list_folders
from tracker_client.journal.segment import segment_size
from tracker_client.journal.writer import JournalWriter
from tracker_client.threads import start_thread

FIRST_BATCH_SECONDS: Final = 0.03
"""Age at which a batch is closed after a quiet time: a single point is on its way at once."""
BATCH_SECONDS: Final = 0.5
"""Time between two batches of a run that logs all the time: fewer, larger requests."""
SYNC_SECONDS: Final = 1.0
"""What a power cut can take, at most."""
LET_GO_SECONDS: Final = 5.0
"""How long the end of a journal waits for a disk that hangs."""
SMALLEST_SHARE: Final = 8
"""A segment is at most this part of what all journals may have."""
_YOUNG_SECONDS: Final = 3.0
"""So long after a journal was made, its sender is looked after more often."""
_YOUNG_LOOK_SECONDS: Final = 0.1
_RETRY_SECONDS: Final = 1.0
"""Pause after a segment could not be made."""
_BUSY_SECONDS: Final = 0.001
"""Pause after a journal was in use."""


class Sender(Protocol):
    """Whoever sends the journals."""

    def wanted(self) -> None:
        """There is a new journal: if it is not running, it is worth starting."""

    def look_after(self) -> None:
        """Starts it if it is not running. Called now and then; returns soon."""


class Keeper:
    """Looks after the journals of this process."""

    def __init__(
        self, directory: Path, sender: Sender | None, journal_bytes: int, trouble: Callable[[str], None]
    ) -> None:
        """directory: where the journals are. sender: None when nothing is to be sent now. journal_bytes: how large all journals of the directory together
        may get. trouble: is told, in words, what goes wrong with the disk; called in the thread."""
        self.directory = directory
        self._sender = sender
        self._journal_bytes = journal_bytes
        self._trouble = trouble
        self._writers: dict[JournalWriter, _Duties] = {}
        # Signal handlers come here too, whatever they interrupt: locks let the same thread in again, and a SimpleQueue
        # may be interrupted by itself, which an Event may not.
        self._lock = threading.RLock()
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._threads: tuple[threading.Thread, ...] = ()
        self._look_at = self._young_until = 0.0

    def wake(self) -> None:
        """There is something to do: a batch was begun, or a segment used."""
        if self._wakes.empty():
            self._wakes.put(None)

    def add(self, writer: JournalWriter) -> None:
        """Looks after one more journal."""
        with self._lock:
            self._writers[writer] = _Duties()
            self._look_at, self._young_until = 0.0, time.monotonic() + _YOUNG_SECONDS
            if not self._threads:
                self._threads = (
                    start_thread("tracker-keeper", self._run),
                    start_thread("tracker-sync", self._run_syncs),
                )
        self.wake()

    def remove(self, writer: JournalWriter) -> None:
        """Lets go of a journal, and of its files, once it is on disk. Raises OSError."""
        with self._lock:
            duties = self._writers.pop(writer, None)
        if duties is None:
            return
        # The threads may be busy with it, and the disk may hang.
        with contextlib.ExitStack() as held:
            for lock in (duties.lock, duties.sync_lock):
                if not lock.acquire(timeout=LET_GO_SECONDS):
                    raise OSError(f"the disk of {writer.folder.path} does not answer")
                held.callback(lock.release)
            duties.over = True
            try:
                _sync(writer)
            finally:
                writer.release()

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            with self._lock:
                writers = list(self._writers.items())
            wait = SYNC_SECONDS
            for writer, duties in writers:
                # Whatever happens to one journal, the others are looked after.
                try:
                    with duties.lock:
                        if not duties.over:
                            wait = min(wait, self._look_after(writer, duties, now))
                except Exception as error:  # noqa: BLE001 - this thread must not end
                    self._trouble(f"the journal {writer.folder.path} cannot be kept: {error}")
            if self._sender is not None and writers:
                wait = min(wait, self._look_after_sender(self._sender, now))
            # Nothing of a journal that has ended is held fast while waiting.
            writers = writer = duties = None  # type: ignore[assignment]  # set again above
            self._wait(wait)

    def _look_after_sender(self, sender: Sender, now: float) -> float:
        """Looks after it when that is due. Returns the seconds until it is again."""
        young = now < self._young_until
        if now >= self._look_at:
            if self._look_at == 0.0:
                sender.wanted()
            # The sender of an earlier run may be about to end: then a new run's is not to come a second late.
            self._look_at = now + (_YOUNG_LOOK_SECONDS if young else SYNC_SECONDS)
            try:
                sender.look_after()
            except Exception as error:  # noqa: BLE001 - this thread must not end
                self._trouble(f"the sender cannot be looked after: {error}")
        return max(0.001, self._look_at - now)

    def _run_syncs(self) -> None:
        while True:
            time.sleep(SYNC_SECONDS)
            with self._lock:
                writers = list(self._writers.items())
            for writer, duties in writers:
                try:
                    with duties.sync_lock:
                        if not duties.over:
                            _sync(writer)
                except Exception as error:  # noqa: BLE001 - this thread must not end either
                    self._trouble(f"the journal {writer.folder.path} cannot be kept: {error}")
            writers = writer = duties = None  # type: ignore[assignment]  # set again above

    def _wait(self, seconds: float) -> None:
        with contextlib.suppress(Empty):
            self._wakes.get(timeout=seconds)
        with contextlib.suppress(Empty):
            while True:
                self._wakes.get_nowait()

    def _look_after(self, writer: JournalWriter, duties: _Duties, now: float) -> float:
        """Does what is due. Returns the seconds until something is due again. Raises OSError."""
        self._allocate(writer, duties, now)
        if writer.dropped and not duties.allocate_after:
            said = "more was logged than could be written to disk at that time; points were dropped, and are counted"
            self._trouble(f"run {writer.identity.run_id}: {said}")
        for segment in list(writer.retired):
            # At once: what is mapped counts as memory of the training.
            segment.unmap()
        return _close_batches(writer, duties, now)

    def _allocate(self, writer: JournalWriter, duties: _Duties, now: float) -> None:
        while now >= duties.allocate_after and (wanted := writer.supply.wanted()) is not None:
            taken = sum(folder.size() for folder in list_folders(self.directory))
            # Small journals have small segments: one can be deleted only as a whole.
            size = max(segment_size(1), min(segment_size(wanted[1]), self._journal_bytes // SMALLEST_SHARE))
            if taken + size > self._journal_bytes:
                duties.allocate_after = now + _RETRY_SECONDS
                self._trouble(
                    f"the journals below {self.directory} have grown to the {self._journal_bytes} bytes that they may "
                    "have (TRACKER_JOURNAL_BYTES); new points are dropped until some are sent"
                )
                return
            try:
                writer.supply.make(size)
            except OSError as error:
                duties.allocate_after = now + _RETRY_SECONDS
                self._trouble(
                    f"no room for journals in {self.directory} ({error.strerror}); new points are dropped until there is"
                )
                return


class _Duties:
    """What is due for a journal, and when."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held while something is done with it."""
        self.sync_lock = threading.RLock()
        """Held while it is synced."""
        self.over = False
        """Whether it was let go of."""
        self.allocate_after = 0.0
        self.batch_closed = 0.0


def _close_batches(writer: JournalWriter, duties: _Duties, now: float) -> float:
    """Closes a batch that is due. Returns the seconds until one may be."""
    opened = writer.open_since()
    if opened is None:
        return SYNC_SECONDS
    due = max(opened + FIRST_BATCH_SECONDS, duties.batch_closed + BATCH_SECONDS)
    if now < due:
        return due - now
    if not writer.end_batch():
        return _BUSY_SECONDS
    duties.batch_closed = now
    return SYNC_SECONDS


def _sync(writer: JournalWriter) -> None:
    """Returns once what was written before has reached the disk. Raises OSError."""
    while writer.retired:
        segment = writer.retired.popleft()
        try:
            segment.sync()
        finally:
            segment.close()
    writer.sync()
