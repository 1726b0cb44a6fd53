"""The one thread that a training process has of us: it allocates segments, closes batches, and syncs to disk.

All of it is short, and most of it waits for the disk without holding the interpreter.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from tracker_client.journal.folder import list_folders
from tracker_client.journal.segment import Segment
from tracker_client.journal.writer import JournalWriter

FIRST_BATCH_SECONDS: Final = 0.03
"""Age at which a batch is closed after a quiet time: a single point is on its way at once."""
BATCH_SECONDS: Final = 0.5
"""Time between two batches of a run that logs all the time: fewer, larger requests."""
SYNC_SECONDS: Final = 1.0
"""What a power cut can take, at most."""
_RETRY_SECONDS: Final = 1.0
"""Pause after a segment could not be made."""


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
        self._writers: dict[JournalWriter, _Times] = {}
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There is something to do: a batch was begun, or a segment used."""
        self._event.set()

    def add(self, writer: JournalWriter) -> None:
        """Looks after one more journal."""
        with self._lock:
            self._writers[writer] = _Times()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tracker-keeper", daemon=True)
                self._thread.start()
        self._event.set()

    def remove(self, writer: JournalWriter) -> None:
        """Lets go of a journal, and of its files, once it is on disk. Raises OSError."""
        with self._lock:
            self._writers.pop(writer, None)
        try:
            _close_retired(writer)
            writer.sync()
        finally:
            writer.release()

    def _run(self) -> None:
        look = 0.0
        while True:
            now = time.monotonic()
            with self._lock:
                writers = list(self._writers.items())
            waits = [SYNC_SECONDS]
            for writer, times in writers:
                # Whatever happens to one journal, the others are looked after.
                try:
                    self._allocate(writer, times, now)
                    waits.append(_close_batches(writer, times, now))
                    waits.append(_sync(writer, times, now))
                except (OSError, ValueError) as error:
                    self._trouble(f"the journal {writer.folder.path} cannot be kept: {error}")
            if self._sender is not None and writers and now >= look:
                look = now + SYNC_SECONDS
                self._sender.look_after()
            self._event.wait(min(waits))
            self._event.clear()

    def _allocate(self, writer: JournalWriter, times: _Times, now: float) -> None:
        while now >= times.allocate_after and (wanted := writer.next_segment()) is not None:
            path, size = wanted
            taken = sum(folder.size() for folder in list_folders(self.directory))
            if taken + size > self._journal_bytes:
                times.allocate_after = now + _RETRY_SECONDS
                self._trouble(
                    f"the journals below {self.directory} have {taken} bytes, and may have "
                    f"{self._journal_bytes} (TRACKER_JOURNAL_BYTES); new points are dropped until some are sent"
                )
                return
            try:
                segment = Segment(path, size)
            except OSError as error:
                times.allocate_after = now + _RETRY_SECONDS
                self._trouble(f"no room for {path}: {error.strerror}; new points are dropped until there is")
                return
            writer.give(segment)


class _Times:
    """When what is due for a journal."""

    def __init__(self) -> None:
        self.allocate_after = 0.0
        self.batch_closed = 0.0
        self.synced = time.monotonic()


def _close_batches(writer: JournalWriter, times: _Times, now: float) -> float:
    """Closes a batch that is due. Returns the seconds until one may be."""
    opened = writer.open_since()
    if opened is None:
        return SYNC_SECONDS
    due = max(opened + FIRST_BATCH_SECONDS, times.batch_closed + BATCH_SECONDS)
    if now < due:
        return due - now
    if not writer.end_batch():
        return 0.001
    times.batch_closed = now
    return SYNC_SECONDS


def _sync(writer: JournalWriter, times: _Times, now: float) -> float:
    """Syncs a journal that is due. Returns the seconds until it is due again."""
    if now >= times.synced + SYNC_SECONDS:
        _close_retired(writer)
        writer.sync()
        times.synced = now
    return times.synced + SYNC_SECONDS - now


def _close_retired(writer: JournalWriter) -> None:
    while writer.retired:
        segment = writer.retired.popleft()
        with contextlib.suppress(FileNotFoundError):
            segment.sync()
        segment.close()
