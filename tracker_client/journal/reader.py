"""A journal as its sender reads it: batch by batch, each as its process closed it, again and again the same.

What is torn or spoilt is skipped by its checksum; everything readable is returned.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field

from tracker_client.journal import frames
from tracker_client.journal.folder import JournalFolder
from tracker_client.journal.frames import PREFIX, ROW_START, Identity, Kind, Method, SegmentHeader
from tracker_client.journal.segment_reader import SegmentReader


@dataclass(slots=True)
class Rows:
    """The rows of one schema in a batch."""

    names: tuple[str, ...]
    rows: list[bytes] = field(default_factory=list)
    """Each: step and time as int64, then a float64 per name, all little-endian."""


@dataclass(slots=True)
class Batch:
    """What is sent with one sequence."""

    sequence: int
    segment: int
    """The segment it lies in; a batch never lies in two."""
    groups: dict[int, Rows] = field(default_factory=dict)
    """By schema: the rows, in the order in which they were logged."""
    order: list[int] = field(default_factory=list)
    """The schema of each row, in the order in which they were logged; empty when there is only one schema."""
    points: int = 0
    size: int = 0
    """Bytes it takes up in the journal."""
    dropped: int = 0
    """Points given up, for a batch that says only that."""
    method: Method | None = None
    """For a batch that is one whole request, which call it is."""
    request: bytes = b""


class JournalReader:
    """Reads one journal from its beginning, and no further than it is asked."""

    def __init__(self, folder: JournalFolder) -> None:
        self._folder = folder
        self._file: SegmentReader | None = None
        self._schemas: dict[int, tuple[str, ...]] = {}
        self._open: Batch | None = None
        self._ready: deque[Batch] = deque()
        header = _find_header(folder)
        self.identity: Identity | None = header.identity if header is not None else None
        """Whose it is; None when no segment has a whole header."""
        self.boot = header.boot if header is not None else ""
        """Which start of the machine it was written in."""
        self.segment = 0
        """The number of the segment being read; those before it have been read to their end."""
        self.closed_at: int | None = None
        """The last sequence, once the process has said that it is done."""
        self.highest = 0
        """The highest sequence seen."""
        self.skipped_bytes = 0
        """Bytes that were there and could not be read."""

    def next_batch(self, *, owned: bool) -> Batch | None:
        """The next batch that nothing can be added to any more; None when there is none yet.

        owned: whether its process lives, asked *before* this call. Of a dead one everything is closed. Raises OSError.
        """
        while not self._ready:
            if self._file is None and not self._open_next(owned=owned):
                return None
            if self._read(final=False):
                break
            # Asked before the last look: what is written between the two is not missed.
            complete = self._successor(begun=owned) is not None
            if not complete and owned:
                return None
            if self._read(final=True):
                break
            self._close_batch()
            if not complete:
                break
            self.close()
        return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        """Closes its file."""
        if self._file is not None:
            self.skipped_bytes += self._file.skipped
            self._file.close()
            self._file = None

    def _read(self, *, final: bool) -> bool:
        """Takes frames until a batch is complete; False when there are no more frames."""
        assert self._file is not None
        for payload in self._file.frames(final=final):
            self._take(payload)
            if self._ready:
                return True
        return False

    def _open_next(self, *, owned: bool) -> bool:
        number = self._successor(begun=owned)
        self._file = None if number is None else SegmentReader.open(self._folder, number)
        if self._file is None or number is None:
            return False
        self.segment = number
        self._schemas.clear()
        if self._file.header is not None:
            # Those before it were in segments that are gone.
            self.highest = max(self.highest, self._file.header.first_sequence - 1)
        return True

    def _successor(self, *, begun: bool) -> int | None:
        """The segment after the present one. begun: leave out those that are only allocated."""
        later = [number for number in self._folder.segment_numbers() if number > self.segment]
        # One whose header is spoilt was begun if a later one was.
        if later and (not begun or any(_header_of(self._folder, number) is not None for number in later)):
            return later[0]
        return None

    def _take(self, payload: bytes) -> None:
        tag, sequence = PREFIX.unpack_from(payload)
        kind = tag & 0xFF
        if kind == Kind.POINTS:
            self._add_row(tag >> 8, sequence, payload)
            return
        if kind == Kind.SCHEMA:
            self._schemas[tag >> 8] = tuple(json.loads(payload[PREFIX.size :]))
            return
        self._close_batch()
        self.highest = max(self.highest, sequence)
        if kind == Kind.CLOSED:
            self.closed_at = sequence
        elif kind == Kind.MESSAGE:
            method = Method(frames.MESSAGE_PREFIX.unpack_from(payload)[2])
            request = payload[frames.MESSAGE_PREFIX.size :]
            self._ready.append(Batch(sequence, self.segment, method=method, request=request, size=len(request)))
        elif kind == Kind.DROPPED:
            self._ready.append(Batch(sequence, self.segment, dropped=frames.DROPPED.unpack_from(payload)[2]))

    def _add_row(self, schema: int, sequence: int, payload: bytes) -> None:
        names = self._schemas.get(schema)
        if names is None:
            # They were in a frame that cannot be read.
            self.skipped_bytes += len(payload)
            return
        batch = self._open
        if batch is None or batch.sequence != sequence:
            self._close_batch()
            batch = self._open = Batch(sequence, self.segment)
            self.highest = max(self.highest, sequence)
        group = batch.groups.get(schema)
        if group is None:
            if len(batch.groups) == 1:
                ((only, first),) = batch.groups.items()
                batch.order = [only] * len(first.rows)
            group = batch.groups[schema] = Rows(names)
        if len(batch.groups) > 1:
            batch.order.append(schema)
        group.rows.append(payload[ROW_START:])
        batch.points += len(names)
        batch.size += len(payload)

    def _close_batch(self) -> None:
        if self._open is not None:
            self._ready.append(self._open)
            self._open = None


def _find_header(folder: JournalFolder) -> SegmentHeader | None:
    for number in folder.segment_numbers():
        header = _header_of(folder, number)
        if header is not None:
            return header
    return None


def _header_of(folder: JournalFolder, number: int) -> SegmentHeader | None:
    file = SegmentReader.open(folder, number)
    if file is None:
        return None
    file.close()
    return file.header
