"""The one thread that a training process has of us: it allocates segments, closes batches, and syncs to disk.

All of it is short, and most of it waits for the disk without holding the interpreter.
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

FIRST_BATCH_SECONDS: Final = 0.03
"""Age at which a batch is closed after a quiet time: a single point is on its way at once."""
BATCH_SECONDS: Final = 0.5
"""Time between two batches of a run that logs all the time: fewer, larger requests."""
SYNC_SECONDS: Final = 1.0
"""What a power cut can take, at most."""
LET_GO_SECONDS: Final = 5.0
"""How long the end of a journal waits for a disk that hangs."""
_RETRY_SECONDS: Final = 1.0
"""Pause after a segment could not be made."""
_BUSY_SECONDS: Final = 0.001
"""Pause after a journal was in use."""


class Sender(Protocol):
    """Whoever sends the journals."""

    def look_after(self) -> None:
        """Starts it if it is not running. Called about once a second; returns soon."""


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
        self._writers: dict[JournalWriter, _Care] = {}
        self._lock = threading.RLock()
        # Unlike an Event's, its lock is none that a signal handler could find taken by what it has interrupted.
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There is something to do: a batch was begun, or a segment used."""
        if self._calls.empty():
            self._calls.put(None)

    def add(self, writer: JournalWriter) -> None:
        """Looks after one more journal."""
        with self._lock:
            self._writers[writer] = _Care()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tracker-keeper", daemon=True)
                self._thread.start()
        self.wake()

    def remove(self, writer: JournalWriter) -> None:
        """Lets go of a journal, and of its files, once it is on disk. Raises OSError."""
        with self._lock:
            care = self._writers.pop(writer, None)
        if care is None:
            return
        # The thread may be at work on it.
        if not care.lock.acquire(timeout=LET_GO_SECONDS):
            raise OSError(f"the disk of {writer.folder.path} does not answer")
        try:
            care.over = True
            try:
                _close_retired(writer)
                writer.sync()
            finally:
                writer.release()
        finally:
            care.lock.release()

    def _run(self) -> None:
        look = 0.0
        while True:
            now = time.monotonic()
            with self._lock:
                writers = list(self._writers.items())
            waits = [SYNC_SECONDS]
            for writer, care in writers:
                with care.lock:
                    if not care.over:
                        waits.append(self._care_for(writer, care, now))
            if self._sender is not None and writers and now >= look:
                look = now + SYNC_SECONDS
                try:
                    self._sender.look_after()
                except Exception as error:  # noqa: BLE001 - the journals are looked after whatever becomes of the sender
                    self._trouble(f"the sender cannot be looked after: {error}")
            with contextlib.suppress(Empty):
                self._calls.get(timeout=min(waits))

    def _care_for(self, writer: JournalWriter, care: _Care, now: float) -> float:
        """Does what is due for a journal. Returns the seconds until something may be."""
        try:
            self._allocate(writer, care, now)
            return min(_close_batches(writer, care, now), _sync(writer, care, now))
        except Exception as error:  # noqa: BLE001 - whatever happens to one journal, the others are looked after
            self._trouble(f"the journal {writer.folder.path} cannot be kept: {error}")
            return SYNC_SECONDS

    def _allocate(self, writer: JournalWriter, care: _Care, now: float) -> None:
        while now >= care.allocate_after and (wanted := writer.next_segment()) is not None:
            taken = sum(folder.size() for folder in list_folders(self.directory))
            if taken + segment_size(wanted[1]) > self._journal_bytes:
                care.allocate_after = now + _RETRY_SECONDS
                self._trouble(
                    f"the journals below {self.directory} have grown to the {self._journal_bytes} bytes that they may "
                    "have (TRACKER_JOURNAL_BYTES); new points are dropped until some are sent"
                )
                return
            try:
                writer.allocate()
            except OSError as error:
                care.allocate_after = now + _RETRY_SECONDS
                self._trouble(
                    f"no room for journals in {self.directory} ({error.strerror}); new points are dropped until there is"
                )
                return


class _Care:
    """What is due for a journal, and when."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held by whoever is at work on its files."""
        self.over = False
        """Whether it has been let go of."""
        self.allocate_after = 0.0
        self.batch_closed = 0.0
        self.synced = time.monotonic()


def _close_batches(writer: JournalWriter, care: _Care, now: float) -> float:
    """Closes a batch that is due. Returns the seconds until one may be."""
    opened = writer.open_since()
    if opened is None:
        return SYNC_SECONDS
    due = max(opened + FIRST_BATCH_SECONDS, care.batch_closed + BATCH_SECONDS)
    if now < due:
        return due - now
    if not writer.end_batch():
        return _BUSY_SECONDS
    care.batch_closed = now
    return SYNC_SECONDS


def _sync(writer: JournalWriter, care: _Care, now: float) -> float:
    """Syncs a journal that is due. Returns the seconds until it is due again."""
    if now >= care.synced + SYNC_SECONDS:
        care.synced = now
        _close_retired(writer)
        writer.sync()
    return care.synced + SYNC_SECONDS - now


def _close_retired(writer: JournalWriter) -> None:
    while writer.retired:
        segment = writer.retired.popleft()
        try:
            segment.sync()
        finally:
            segment.close()
