"""A journal as its process writes it. What `append` has returned for survives the process, whatever happens to it.

`append` touches memory only: the file is mapped, and its pages were allocated beforehand by the keeper's thread. The kernel
writes them to disk even if the process is killed in the next instant.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol
from zlib import crc32

from tracker_client.journal import frames
from tracker_client.journal.folder import create_folder
from tracker_client.journal.frames import FRAME_HEADER, Identity, Kind, Method, SegmentHeader
from tracker_client.journal.segment import Segment, segment_size
from tracker_client.journal.status import StatusPage

BATCH_BYTES: Final = 1024 * 1024
"""A batch is cut at so many bytes of its encoding: every server takes requests of that size."""
WIDEST_ROW_BYTES: Final = 256 * 1024
"""A row, its names included, is no larger; callers split wider ones."""
SPARES: Final = 2
"""Segments allocated ahead: one alone could be used up before its successor is there."""
PATIENCE_SECONDS: Final = 0.05
"""How long a row waits for a segment that the keeper is making, once: then rows are dropped until there is one."""
_COLUMN_OVERHEAD: Final = 12
"""Bytes of a column's encoding beside its name and values."""
_RESERVE: Final = frames.frame_size(frames.PREFIX.size)
"""Room at a segment's end for the mark that ends its last batch."""
_pack_header = FRAME_HEADER.pack_into


class TooWide(ValueError):
    """A row has too many metrics for one frame."""


class JournalFull(Exception):
    """No allocated segment is at hand: the disk or the journal is full, or the keeper has not come to it yet."""


class Keeper(Protocol):
    """Whoever makes segments ahead of time, and closes batches that are old enough."""

    def wake(self) -> None:
        """There is something to do. Returns at once."""


class JournalWriter:
    """The journal of one run in this process. Methods may be called from any thread."""

    def __init__(self, directory: Path, identity: Identity, keeper: Keeper) -> None:
        """Makes the journal with its first segment. Raises OSError."""
        self.identity = identity
        self.folder, self._owner = create_folder(directory, identity)
        self._boot = frames.present_boot()
        self._keeper = keeper
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: list[Callable[[], object]] = []
        self._schemas: dict[tuple[str, ...], _Schema] = {}
        self._sequence = 1
        self._open = False
        self._opened = 0.0
        self._batch_bytes = 0
        self.next_step = 0
        """The step of a row that is given none."""
        self._unreported = 0
        self._synced: tuple[int, int] | None = None
        self._closed = False
        self._patient = True
        self._arrived = threading.Event()
        self.points = 0
        """Points taken, dropped ones not counted."""
        self.dropped = 0
        """Points given up because no segment was at hand."""
        self.status = StatusPage(self.folder.status_path)
        self.spares: deque[Segment] = deque()
        """The next segments, allocated already."""
        self.retired: deque[Segment] = deque()
        """Full segments, to be closed by the keeper."""
        self._number = self._offset = self._limit = 0
        self._begin_segment(Segment(self.folder.segment_path(1), segment_size(1)), 1)

    # ------------------------------------------------------------ what training calls

    def append_apart(self, metrics: Mapping[str, object], step: int, time_ms: int) -> None:
        """One row whose step has nothing to do with those of training: the next row's default step stays what it is.

        Raises what append does.
        """
        with self._lock:
            before = self.next_step
            self.append(metrics, step, time_ms)
            self.next_step = before

    def append(self, metrics: Mapping[str, object], step: int | None, time_ms: int) -> None:
        """One row. step None: one after the last row's.

        Raises ValueError for a name that cannot be, TooWide, and struct.error, TypeError, OverflowError or whatever a
        value raises when it is made a float; then nothing was written.
        """
        with self._lock:
            if self._busy:
                # A signal handler that logs has interrupted this very method.
                copy = dict(metrics)
                self._deferred.append(lambda: self.append(copy, step, time_ms))
                return
            self._busy = True
            try:
                names = tuple(metrics)
                schema = self._schemas.get(names)
                if schema is None or schema.sequence != self._sequence:
                    schema = self._schema(names)
                end = self._offset + schema.frame_bytes
                if end > self._limit or self._batch_bytes + schema.row_bytes > BATCH_BYTES:
                    schema = self._make_room(schema)
                    end = self._offset + schema.frame_bytes
                if step is None:
                    step = self.next_step
                offset = self._offset
                body = offset + 8
                try:
                    schema.pack_into(self._map, body, schema.tag, self._sequence, step, time_ms, *metrics.values())
                except BaseException:
                    # Behind the last frame there must be zeros.
                    self._map[body:end] = bytes(end - body)
                    raise
                _pack_header(self._map, offset, schema.payload_bytes, crc32(self._view[body:end]))
                self._offset = end
                self.next_step = step + 1
                self.points += schema.columns
                self._batch_bytes += schema.row_bytes
                if not self._open:
                    self._open = True
                    self._opened = time.monotonic()
                    self._keeper.wake()
            except JournalFull:
                self.dropped += len(metrics)
                self._unreported += len(metrics)
                self._keeper.wake()
            finally:
                self._busy = False
            if self._deferred:
                self._catch_up()

    def message(self, method: Method, encode: Callable[[int], bytes]) -> int:
        """A whole request, which gets a sequence of its own: `encode` makes its bytes from that.

        Makes a segment if none is at hand, so it may wait for the disk. Returns the sequence; raises OSError.
        """
        with self._lock:
            if self._busy:
                raise RuntimeError("called from a signal handler that has interrupted the journal")
            self._busy = True
            try:
                self._end_batch()
                sequence = self._sequence
                self._put(frames.message_payload(sequence, method, encode(sequence)))
                self._sequence += 1
            finally:
                self._busy = False
        self._keeper.wake()
        return sequence

    def close(self) -> int:
        """Ends the journal: nothing can be appended any more. Returns the last sequence. Idempotent. Raises OSError."""
        with self._lock:
            if not self._closed:
                self._report_dropped()
                self._end_batch()
                self._put(frames.mark_payload(Kind.CLOSED, self._sequence - 1))
                self._closed = True
                # From here on a row finds no room.
                self._limit = 0
        self._keeper.wake()
        return self._sequence - 1

    def interrupt(self) -> None:
        """Called in a signal handler that will not return to whatever it has interrupted: makes an end of that."""
        with self._lock:
            if self._busy:
                self._busy = False
                end = min(self._offset + 2 * WIDEST_ROW_BYTES, len(self._map))
                self._map[self._offset : end] = bytes(end - self._offset)

    # ------------------------------------------------------------ what the keeper calls

    def open_since(self) -> float | None:
        """Since when, by the monotonic clock, there is something to close or to tell; None when there is nothing."""
        return self._opened if self._open or self._unreported else None

    def end_batch(self) -> bool:
        """Closes the open batch, so that it is sent, and tells what was dropped, once there is room for it.

        Waits for nobody: False when the journal is in use just now.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._busy:
                return False
            if not self._closed:
                self._report_dropped()
                self._end_batch()
            return True
        finally:
            self._lock.release()

    def next_segment(self) -> tuple[Path, int] | None:
        """Where a segment is to be made, and its size in bytes; None when enough are at hand."""
        if self._closed or len(self.spares) >= SPARES:
            return None
        number = self._number + len(self.spares) + 1
        return self.folder.segment_path(number), segment_size(number)

    def give(self, segment: Segment) -> None:
        """A segment that was asked for."""
        self.spares.append(segment)
        self._arrived.set()

    def sync(self) -> None:
        """Returns once what was appended before has reached the disk. Raises OSError."""
        segment, written = self._segment, (self._number, self._offset)
        if self._synced != written:
            segment.sync()
            self._synced = written

    def release(self) -> None:
        """Lets go of everything: files are closed, the lock is free. What is in the journal stays."""
        with self._lock:
            self._closed = True
            self._limit = 0
            self._map, self._view = mmap.mmap(-1, 1), memoryview(b"")
            for segment in (*self.retired, self._segment):
                segment.close()
            for segment in self.spares:
                segment.discard()
            self.retired.clear()
            self.spares.clear()
            self.disown()

    def disown(self) -> None:
        """Gives up the lock. For the child of a fork: the parent keeps it."""
        if self._owner >= 0:
            os.close(self._owner)
            self._owner = -1

    # ------------------------------------------------------------ inside; the caller holds the lock

    def _schema(self, names: tuple[str, ...]) -> _Schema:
        """The schema of these names, known to the segment and counted in the open batch. Raises JournalFull."""
        schema = self._schemas.get(names) or _Schema(names)
        if self._batch_bytes + schema.names_bytes + schema.row_bytes > BATCH_BYTES:
            self._end_batch()
        if names not in self._schemas:
            payload = frames.schema_payload(len(self._schemas), self._sequence, names)
            if frames.frame_size(len(payload)) + schema.frame_bytes > self._room():
                self._next_segment()
                payload = frames.schema_payload(0, self._sequence, names)
            schema.tag = Kind.POINTS | len(self._schemas) << 8
            self._write(payload)
            self._schemas[names] = schema
        schema.sequence = self._sequence
        self._batch_bytes += schema.names_bytes
        return schema

    def _make_room(self, schema: _Schema) -> _Schema:
        """Ends the batch, and the segment if it has no room for a row. Raises JournalFull."""
        if self._offset + schema.frame_bytes > self._limit:
            self._next_segment()
        else:
            self._end_batch()
        return self._schema(schema.names)

    def _end_batch(self) -> None:
        if self._open:
            self._write(frames.mark_payload(Kind.BATCH_END, self._sequence))
            self._sequence += 1
            self._batch_bytes = 0
            self._open = False

    def _report_dropped(self) -> None:
        if self._unreported:
            self._end_batch()
            payload = frames.dropped_payload(self._sequence, self._unreported)
            if frames.frame_size(len(payload)) <= self._room():
                self._write(payload)
                self._sequence += 1
                self._unreported = 0

    def _put(self, payload: bytes) -> None:
        """Writes a frame, into a new segment if it has to be. Raises OSError."""
        if frames.frame_size(len(payload)) > self._room():
            if self._closed:
                raise OSError("the journal is closed")
            if not self.spares:
                path, size = self.folder.segment_path(self._number + 1), segment_size(self._number + 1)
                self.spares.append(Segment(path, size))
            self._next_segment()
        self._write(payload)

    def _room(self) -> int:
        return self._limit - self._offset

    def _next_segment(self) -> None:
        if not self.spares and self._patient and not self._closed:
            # The keeper may be about to give one, and only wait for its turn to run.
            self._arrived.clear()
            self._keeper.wake()
            self._patient = self._arrived.wait(PATIENCE_SECONDS)
        if not self.spares or self._closed:
            raise JournalFull
        self._patient = True
        self._end_batch()
        self.retired.append(self._segment)
        self._begin_segment(self.spares.popleft(), self._number + 1)
        self._keeper.wake()

    def _begin_segment(self, segment: Segment, number: int) -> None:
        header = SegmentHeader(self.identity, number, self._sequence, self._boot).encode()
        segment.map[: len(header)] = header
        self._segment, self._number = segment, number
        self._map, self._view = segment.map, segment.view
        self._offset, self._limit = len(header), segment.size - _RESERVE
        self._schemas.clear()

    def _write(self, payload: bytes) -> None:
        start = self._offset + FRAME_HEADER.size
        self._map[start : start + len(payload)] = payload
        _pack_header(self._map, self._offset, len(payload), crc32(payload))
        self._offset += frames.frame_size(len(payload))

    def _catch_up(self) -> None:
        waiting, self._deferred = self._deferred, []
        for one in waiting:
            one()


class _Schema:
    """The names of a row's values, and how it is packed."""

    __slots__ = (
        "columns",
        "frame_bytes",
        "names",
        "names_bytes",
        "pack_into",
        "payload_bytes",
        "row_bytes",
        "sequence",
        "tag",
    )

    def __init__(self, names: tuple[str, ...]) -> None:
        check_names(names)
        self.names = names
        self.columns = len(names)
        self.names_bytes = sum(len(name.encode()) + _COLUMN_OVERHEAD for name in names)
        self.row_bytes = 8 * (len(names) + 2)
        if self.row_bytes + self.names_bytes > WIDEST_ROW_BYTES:
            raise TooWide(f"a row of {len(names)} metrics")
        row = struct.Struct(f"{frames.ROW_PREFIX.format}{len(names)}d")
        self.pack_into = row.pack_into
        self.payload_bytes = row.size
        self.frame_bytes = frames.frame_size(row.size)
        self.tag = 0
        """Of its rows in the present segment."""
        self.sequence = 0
        """The batch that its names were last counted in."""


LONGEST_NAME: Final = 256
"""Characters of a metric's name; servers take no longer ones."""


def check_names(names: tuple[str, ...]) -> None:
    """Raises ValueError, which names the first metric name that no server takes."""
    if not names:
        raise ValueError("no metrics were given")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"the metric name {name!r} is of type {type(name).__name__}; it must be str")
        if not 1 <= len(name) <= LONGEST_NAME:
            raise ValueError(f"the metric name {name[:40]!r} has {len(name)} characters; 1 to {LONGEST_NAME} are right")
        if not name.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
            raise ValueError(f"the metric name {name!r} has control characters")
        name.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
