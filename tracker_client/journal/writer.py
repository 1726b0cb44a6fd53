"""A journal as its process writes it. What `append` has returned for survives the process, whatever happens to it.

`append` touches memory only: the file is mapped, and its pages were allocated beforehand by the keeper's thread. The kernel
writes them to disk even if the process is killed in the next instant.

Signal handlers may interrupt all of it and log themselves, or raise. What they log meanwhile waits until the journal is at
rest; after an exception, what lies whole in the map counts as written, and what does not is wiped out.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from operator import index
from pathlib import Path
from typing import Final, Protocol
from zlib import crc32

from tracker_client.journal import frames
from tracker_client.journal.folder import create_folder
from tracker_client.journal.frames import FRAME_HEADER, PREFIX, ROW_START, Identity, Kind, Method, SegmentHeader
from tracker_client.journal.schema import Schema
from tracker_client.journal.segment import Segment
from tracker_client.journal.status import StatusPage
from tracker_client.journal.supply import SegmentSupply

BATCH_BYTES: Final = 1024 * 1024
"""A batch is cut at so many bytes of its encoding: every server takes requests of that size."""
_MARK_BYTES: Final = frames.frame_size(PREFIX.size)
_DROPPED_BYTES: Final = frames.frame_size(frames.DROPPED.size)
_RESERVE: Final = 2 * _MARK_BYTES + _DROPPED_BYTES
"""Room at a segment's end for what ends its last batch and the journal: that needs no other segment, nor a disk with room."""
_LAST_WORDS: Final = 64 * 1024
"""Room at a segment's end, a sixteenth of it at most, that rows leave to requests: the run's end finds a place when no further
segment can be had."""
_PAGE: Final = 4096
_ZERO_PAGE: Final = bytes(_PAGE)
_pack_header = FRAME_HEADER.pack_into
_Deferred = Callable[[], object]


class JournalFull(Exception):
    """No allocated segment is at hand: the disk or the journal is full, or the keeper has not come to it yet."""


class Keeper(Protocol):
    """Whoever makes segments ahead of time, and closes batches that are old enough."""

    def wake(self) -> None:
        """There is something to do. Returns at once; may be called in a signal handler that has interrupted it."""


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
        self._deferred: deque[_Deferred] = deque()
        self._catching_up = False
        self._schemas: dict[tuple[str, ...], Schema] = {}
        self._sequence = 1
        self._open = False
        self._opened = 0.0
        self._batch_bytes = 0
        self.next_step = 0
        """The step of a row that is given none."""
        self._unreported = 0
        self._synced: tuple[int, int] | None = None
        self._closed = False
        self.points = 0
        """Points taken, dropped ones not counted."""
        self.dropped = 0
        """Points given up because no segment was at hand."""
        self.supply = SegmentSupply(self.folder)
        """The next segments."""
        self.retired: deque[Segment] = deque()
        """Full segments, to be closed by the keeper."""
        self._offset = self._limit = self._last_words = 0
        try:
            self.status = StatusPage(self.folder.status_path)
            self._begin_segment(Segment(self.folder.segment_path(1), 1))
        except BaseException:
            shutil.rmtree(self.folder.path, ignore_errors=True)
            self.disown()
            raise

    # ------------------------------------------------------------ what training calls

    def append_apart(self, metrics: Mapping[str, object], step: int, time_ms: int) -> None:
        """One row whose step has nothing to do with those of training: the next row's default step stays what it is.

        Raises what append does.
        """
        with self._lock:
            before = self.next_step
            try:
                self.append(metrics, step, time_ms)
            finally:
                self.next_step = before

    def append(self, metrics: Mapping[str, object], step: int | None, time_ms: int) -> None:
        """One row. step None: one after the last row's.

        Raises ValueError for a name that cannot be, TooWide, and struct.error, TypeError, OverflowError or whatever a
        value raises when it is made a float; then nothing was written.
        """
        with self._lock:
            if self._busy:
                # A signal handler that logs has interrupted this very journal.
                return self._defer_row(metrics, step, time_ms)
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
                # A step may be of a small NumPy type, whose largest number has no next one.
                following = index(step) + 1
                values = metrics.values()
                offset = self._offset
                body = offset + 8
                try:
                    # Between taking the map and writing to it there is no call: a signal handler may have closed it.
                    schema.pack_into(self._map, body, schema.tag, self._sequence, step, time_ms, *values)
                    checksum = crc32(self._view[body:end])
                    _pack_header(self._map, offset, schema.payload_bytes, checksum)
                except BaseException:
                    self._settle(end)
                    raise
                self._offset = end
                self.next_step = following
                self.points += schema.columns
                self._batch_bytes += schema.row_bytes
                if not self._open:
                    self._open = True
                    self._opened = time.monotonic()
                    self._keeper.wake()
            except JournalFull:
                self._drop(len(metrics), step)
            finally:
                self._busy = False
            if self._deferred:
                self._catch_up()
        return None

    def message(self, method: Method, encode: Callable[[int], bytes]) -> None:
        """A whole request, which gets a sequence of its own: `encode` makes its bytes from that.

        Makes a segment if none is at hand, so it may wait for the disk. Raises OSError, also for too large a request.
        """
        with self._lock:
            if self._busy:
                self._deferred.append(lambda: self.message(method, encode))
                return
            self._busy = True
            try:
                self._end_batch()
                payload = frames.message_payload(self._sequence, method, encode(self._sequence))
                if len(payload) > frames.LARGEST_MESSAGE:
                    raise OSError(
                        errno.EMSGSIZE,
                        f"the request has {len(payload)} bytes, and servers take {frames.LARGEST_MESSAGE} at most",
                    )
                self._put(payload)
                self._sequence += 1
                self._keeper.wake()
            finally:
                self._busy = False
            if self._deferred:
                self._catch_up()

    def close(self) -> int:
        """Ends the journal: nothing can be appended any more. Returns the last sequence. Idempotent.

        In a signal handler that has interrupted the journal, it makes an end of what was interrupted. Raises OSError.
        """
        with self._lock:
            self.interrupt()
            if not self._closed:
                self._catch_up()
                self._busy = True
                try:
                    self._end_batch()
                    if self._unreported:
                        self._write_dropped()
                    self._write(frames.mark_payload(Kind.CLOSED, self._sequence - 1))
                    self._shut()
                    self._keeper.wake()
                finally:
                    self._busy = False
                # What was logged while this went on is counted as dropped.
                self._catch_up()
            return self._sequence - 1

    def interrupt(self) -> None:
        """Called in a signal handler that will not return to whatever it has interrupted: makes an end of that."""
        with self._lock:
            if self._busy:
                self._settle(min(self._offset + frames.LARGEST_FRAME, self._segment.size))
                self._busy = self._catching_up = False

    # ------------------------------------------------------------ what the keeper calls

    def open_since(self) -> float | None:
        """Since when, by the monotonic clock, there is something to close or to tell; None when there is nothing."""
        return self._opened if (self._open or self._unreported) and not self._closed else None

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
                self._end_batch()
                if self._unreported and self._room() >= _DROPPED_BYTES:
                    self._write_dropped()
            return True
        finally:
            self._lock.release()

    def sync(self) -> None:
        """Returns once what was appended before has reached the disk. Raises OSError."""
        segment, offset = self._segment, self._offset
        if self._synced != (segment.number, offset):
            segment.sync()
            self._synced = segment.number, offset

    def release(self) -> None:
        """Lets go of everything: files are closed, the lock is free. What is in the journal stays."""
        with self._lock:
            self._shut()
            for segment in (*self.retired, self._segment):
                segment.close()
            self.retired.clear()
            self.supply.discard()
            self.disown()

    def disown(self) -> None:
        """Gives up the lock. For the child of a fork: the parent keeps it."""
        if self._owner >= 0:
            os.close(self._owner)
            self._owner = -1

    # ------------------------------------------------------------ inside; the caller holds the lock

    def _schema(self, names: tuple[str, ...]) -> Schema:
        """The schema of these names, known to the segment and counted in the open batch. Raises JournalFull."""
        schema = self._schemas.get(names) or Schema(names)
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

    def _make_room(self, schema: Schema) -> Schema:
        """Ends the batch, and the segment if it has no room for a row. Raises JournalFull."""
        if self._offset + schema.frame_bytes > self._limit:
            self._next_segment()
        else:
            self._end_batch()
        return self._schema(schema.names)

    def _end_batch(self) -> None:
        if self._open:
            self._write(frames.mark_payload(Kind.BATCH_END, self._sequence))
            # A call of its own would be a chance for a signal, with the mark written and the batch open.
            self._sequence, self._batch_bytes, self._open = self._sequence + 1, 0, False

    def _write_dropped(self) -> None:
        self._write(frames.dropped_payload(self._sequence, self._unreported))
        self._sequence += 1
        self._unreported = 0

    def _drop(self, points: int, step: int | None) -> None:
        """Counts a row that found no room. It uses up its step: those after it shall have the ones that they would have."""
        self.dropped += points
        self._unreported += points
        if step is None:
            self.next_step += 1
        elif isinstance(step, int):
            self.next_step = step + 1
        self._keeper.wake()

    def _put(self, payload: bytes) -> None:
        """Writes a frame, into a new segment if it has to be. Raises OSError."""
        size = frames.frame_size(len(payload))
        if size > self._room():
            if self._closed:
                raise OSError("the journal is closed")
            try:
                if not self.supply.spares:
                    self.supply.make()
                self._next_segment()
            except (OSError, JournalFull) as error:
                if size > self._room() + self._last_words:
                    if isinstance(error, OSError):
                        raise
                    raise OSError(errno.ENOSPC, "there is no room for a request") from error
            if size > self._room() + self._last_words:
                raise OSError(errno.EMSGSIZE, f"a request of {len(payload)} bytes fits into no segment")
        self._write(payload)

    def _room(self) -> int:
        return self._limit - self._offset

    def _next_segment(self) -> None:
        if not self.supply.wait(self._keeper.wake) or self._closed:
            raise JournalFull
        self._end_batch()
        full = self._segment
        self._begin_segment(self.supply.spares.popleft())
        self.retired.append(full)
        self._keeper.wake()

    def _begin_segment(self, segment: Segment) -> None:
        header = SegmentHeader(self.identity, segment.number, self._sequence, self._boot).encode()
        size = len(header)
        last_words = min(_LAST_WORDS, segment.size // 16)
        limit = segment.size - _RESERVE - last_words
        # No calls from here on, so that no signal comes in between: its handler may close the journal, and with its header
        # a segment is where a reader goes on.
        if self._closed:
            segment.discard()
            raise JournalFull
        self._segment, self._map, self._view = segment, segment.map, segment.view
        self._offset, self._limit, self._last_words = size, limit, last_words
        self._schemas = {}
        self._map[:size] = header

    def _write(self, payload: bytes) -> None:
        # As in append, no call between taking the map and writing to it.
        length, checksum = len(payload), crc32(payload)
        end = self._offset + frames.frame_size(length)
        start = self._offset + FRAME_HEADER.size
        try:
            self._map[start : start + length] = payload
            _pack_header(self._map, self._offset, length, checksum)
        except BaseException:
            self._settle(end)
            raise
        self._offset = end

    def _settle(self, end: int) -> None:
        """After an interruption: a whole frame counts as written; of one that is not, nothing stays. end: how far it goes."""
        if self._closed:
            return
        start = self._offset + FRAME_HEADER.size
        length, _ = FRAME_HEADER.unpack_from(self._map, self._offset)
        if not length:
            # Behind the last frame there must be zeros.
            for page in range(self._offset, end, _PAGE):
                until = min(page + _PAGE, end)
                if self._map[page:until] != _ZERO_PAGE[: until - page]:
                    self._map[page:until] = _ZERO_PAGE[: until - page]
            return
        tag, sequence = PREFIX.unpack_from(self._map, start)
        self._offset += frames.frame_size(length)
        if tag & 0xFF == Kind.POINTS:
            self._open = True
            self.points += (length - frames.ROW_PREFIX.size) // 8
            self._batch_bytes += length - ROW_START
            self.next_step = struct.unpack_from("<q", self._map, start + ROW_START)[0] + 1
        elif tag & 0xFF != Kind.SCHEMA and sequence == self._sequence:
            self._sequence, self._batch_bytes, self._open = self._sequence + 1, 0, False
            if tag & 0xFF == Kind.DROPPED:
                self._unreported = 0

    def _shut(self) -> None:
        """From here on a row finds no room, and whatever a signal has interrupted writes into nothing."""
        self._closed = self.supply.ended = True
        self._limit = 0
        self._map, self._view = mmap.mmap(-1, 1), memoryview(b"")

    def _defer_row(self, metrics: Mapping[str, object], step: int | None, time_ms: int) -> None:
        """Takes a row in a signal handler. Raises what is wrong with it here, where it was logged."""
        row = dict(metrics)
        Schema(tuple(row))
        struct.pack(f"<qq{len(row)}d", 0 if step is None else step, time_ms, *row.values())
        self._deferred.append(lambda: self.append(row, step, time_ms))

    def _catch_up(self) -> None:
        """Does what signal handlers wanted meanwhile; what finds no room on disk waits for the next time."""
        if self._catching_up:
            return
        self._catching_up = True
        try:
            while self._deferred:
                one = self._deferred.popleft()
                try:
                    one()
                except OSError:
                    self._deferred.appendleft(one)
                    return
        finally:
            self._catching_up = False
