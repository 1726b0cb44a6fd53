"""One file of a journal, mapped into memory: made and allocated ahead of time, so that writing to it cannot fail."""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path
from typing import Final

SMALLEST_BYTES: Final = 1024 * 1024
"""A journal's first segment: most runs are short, and there may be many."""
LARGEST_BYTES: Final = 16 * 1024 * 1024
"""Segments double up to this; two of them are mapped at a time."""
_MODE: Final = 0o640


class Segment:
    """A segment that is being written, or ready to be."""

    def __init__(self, path: Path, number: int) -> None:
        """Makes the file and allocates it on disk, all zeros. Raises OSError: no room, no permission, already there.

        number: its position among the segments of its journal, from 1.
        """
        self.path = path
        self.number = number
        self.size = size = segment_size(number)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            # A page that is only mapped and finds no room on disk later would end the process with SIGBUS.
            os.posix_fallocate(descriptor, 0, size)
            self.map = mmap.mmap(descriptor, size)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._descriptor = descriptor
        self.view = memoryview(self.map)

    def sync(self) -> None:
        """Returns once everything written so far has reached the disk. Raises OSError."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Unmaps it; what was written stays. Idempotent."""
        if self._descriptor < 0:
            return
        self.view.release()
        self.map.close()
        os.close(self._descriptor)
        self._descriptor = -1

    def discard(self) -> None:
        """Unmaps and removes one that was never used."""
        self.close()
        with contextlib.suppress(OSError):
            # Gone with its folder, or not to be removed: the sender removes it with the journal.
            self.path.unlink()


def segment_size(number: int) -> int:
    """Bytes of a journal's n-th segment, counted from 1."""
    return min(SMALLEST_BYTES << min(number - 1, 10), LARGEST_BYTES)
