"""The next segments of a journal, allocated before they are needed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from tracker_client.journal.folder import JournalFolder
from tracker_client.journal.segment import LARGEST_BYTES, Segment, make_segment

SPARES: Final = 2
"""Segments allocated ahead: one alone could be used up before its successor is there."""
PATIENCE_SECONDS: Final = 0.2
"""How long a row waits for a segment that the keeper is making, once: then rows are dropped until there is one."""


class SegmentSupply:
    """Made by the keeper's thread, taken by whoever logs. The first segment is the writer's own business."""

    def __init__(self, folder: JournalFolder) -> None:
        self._folder = folder
        self._patient = True
        # Unlike an Event's, its lock cannot be left taken by an exception out of a signal handler.
        self._arrived: SimpleQueue[None] = SimpleQueue()
        self._lock = threading.RLock()
        self._made = 1
        """Number of the last segment that was made."""
        self.spares: deque[Segment] = deque()
        """Those that are ready."""
        self.ended = False
        """Whether no more are needed."""

    def wanted(self) -> tuple[Path, int] | None:
        """Where a segment is to be made, and its number; None when enough are at hand."""
        if self.ended or len(self.spares) >= SPARES:
            return None
        number = self._made + 1
        return self._folder.segment_path(number), number

    def make(self, largest: int = LARGEST_BYTES) -> None:
        """Makes the next segment, unless enough are at hand. Waits for the disk. Raises OSError.

        largest: bytes that it may have. Where there is no room for it, a smaller one is made.
        """
        with self._lock:
            while (wanted := self.wanted()) is not None:
                try:
                    segment = make_segment(*wanted, largest)
                except FileExistsError:
                    # Left by a signal handler that has interrupted this. Gaps do no harm.
                    self._made += 1
                    continue
                if segment.number <= self._made:
                    segment.discard()
                    continue
                self._made = segment.number
                self.spares.append(segment)
                return self._arrived.put(None)
            return None

    def wait(self, wake: Callable[[], None]) -> bool:
        """Waits a moment for a segment if there is none, but once only until there is one again; whether there is one.

        wake: tells the keeper.
        """
        if not self.spares and self._patient and not self.ended:
            # The keeper may be about to give one, and only wait for its turn to run.
            wake()
            self._patient = self._wait()
        if not self.spares or self.ended:
            return False
        self._patient = True
        return True

    def discard(self) -> None:
        """Removes those that were not used."""
        for segment in self.spares:
            segment.discard()
        self.spares.clear()

    def _wait(self) -> bool:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.spares and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(Empty):
                # There may be tokens of segments used long ago.
                self._arrived.get(timeout=left)
        return bool(self.spares)
