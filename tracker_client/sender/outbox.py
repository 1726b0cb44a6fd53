"""One journal on its way to the server: what is read, what is under way, what has arrived, what can be deleted."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path
from typing import Final

from tracker_client.journal.folder import JournalFolder
from tracker_client.journal.frames import Identity, Method, present_boot
from tracker_client.journal.reader import Batch, JournalReader
from tracker_client.journal.status import Connection, StatusPage
from tracker_client.sender.encode import encode_message, encode_points, encode_void

BATCHES_UNDER_WAY: Final = 4
"""Of one journal: enough that the server need not wait, few enough that others get their turn."""
REPLAY_AFTER_SECONDS: Final = 30.0
"""What is sent so long after its process has ended is history: it renews no lease."""
_METHODS: Final = {
    Method.START_RUN: "StartRun",
    Method.UPDATE_RUN: "UpdateRun",
    Method.RUN_COMPLETED: "RunCompleted",
    Method.UPDATE_EXPERIMENT: "UpdateExperiment",
    Method.REWIND_RUN: "RewindRun",
}


class Outgoing:
    """A batch that is to be sent, or is under way."""

    __slots__ = ("batch", "tries", "void")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.tries = 0
        """How often it was sent."""
        self.void = False
        """Whether it is sent as a void write: the server can never take what it was, or has taken what is not of the run."""


class Outbox:
    """The journal of one process and run, as far as the sender is concerned."""

    def __init__(self, folder: JournalFolder, identity: Identity, reader: JournalReader) -> None:
        """Raises OSError."""
        self.folder = folder
        self.identity = identity
        self._reader = reader
        self._page = StatusPage(folder.status_path)
        self.status = replace(self._page.read(), message="", connection=Connection.UNKNOWN)
        self._done: set[int] = set()
        self._again: deque[Outgoing] = deque()
        self._refused: deque[tuple[Outgoing, Path, str]] = deque()
        self._under_way: dict[int, Outgoing] = {}
        self._unfinished: Counter[int] = Counter()
        self._deleted_to = 0
        self._points: dict[int, int] = {}
        self._closing = False
        self._ended_at: float | None = None
        self.owned = folder.owned()
        """Whether its process lives, as of the last look."""
        if not self.owned:
            self._ended_at = time.monotonic() - REPLAY_AFTER_SECONDS
        self.awaited = False
        """Whether its process waits for all of it to arrive, as of the last look."""
        self.drained = False
        """Whether everything was read, and nothing will be added."""

    @property
    def pending(self) -> bool:
        """Whether something is still to be sent or to be answered."""
        return not (self.drained and self.status.closed)

    @property
    def replay(self) -> bool:
        """Whether what is sent now is history."""
        return self._ended_at is not None and time.monotonic() - self._ended_at >= REPLAY_AFTER_SECONDS

    def look(self) -> None:
        """Looks whether its process lives, and waits."""
        self.owned = self.folder.owned()
        self.awaited = self.owned and self.folder.awaited_path.exists()
        if not self.owned and self._ended_at is None:
            self._ended_at = time.monotonic()
        self._put_aside()

    def next(self, *, probing: bool) -> Outgoing | None:
        """What is to be sent next, if anything. probing: one at a time. Raises OSError."""
        if len(self._under_way) >= (1 if probing else BATCHES_UNDER_WAY):
            return None
        outgoing = self._again.popleft() if self._again else self._read()
        if outgoing is not None:
            outgoing.tries += 1
            self._under_way[outgoing.batch.sequence] = outgoing
        return outgoing

    def request(self, outgoing: Outgoing) -> tuple[str, bytes]:
        """The method to call for it, and the encoded request."""
        batch = outgoing.batch
        if outgoing.void:
            lost = batch.points + batch.dropped
            return "LogMetrics", encode_void(self.identity, batch.sequence, lost, replay=self.replay)
        if batch.method is not None:
            return _METHODS[batch.method], encode_message(batch, replay=self.replay)
        return "LogMetrics", encode_points(self.identity, batch, replay=self.replay)

    def wants_close(self) -> int | None:
        """The last sequence, when all that is left is to close the writer; asked once, unless `close_failed` was called."""
        if self._closing or not self.drained or self._under_way or self._again or self._refused or self.status.closed:
            return None
        last = self._reader.closed_at
        if last is None:
            if self._reader.boot != present_boot():
                # The machine went down: what reached no disk is lost, and nobody knows how much. The writer stays open.
                self.status = replace(self.status, closed=True)
                return None
            last = max(self._reader.highest, self.status.acknowledged)
        if last == 0:
            # Its process died before it had written anything.
            self.status = replace(self.status, closed=True)
            return None
        self._closing = True
        return last

    def closed(self, write_token: str) -> None:
        """The close was acknowledged: nothing is left to send."""
        self.status = replace(self.status, closed=True, write_token=write_token or self.status.write_token)

    def close_failed(self) -> None:
        """It was not; it is to be tried again."""
        self._closing = False

    def acknowledge(self, outgoing: Outgoing, write_token: str) -> None:
        """A batch is durable at the server, or given up for good."""
        batch = outgoing.batch
        self._under_way.pop(batch.sequence, None)
        self._done.add(batch.sequence)
        self._points[batch.sequence] = batch.points
        acknowledged, points = self.status.acknowledged, self.status.points
        while acknowledged + 1 in self._done:
            acknowledged += 1
            self._done.discard(acknowledged)
            points += self._points.pop(acknowledged)
        self.status = replace(
            self.status,
            acknowledged=acknowledged,
            points=points,
            write_token=write_token or self.status.write_token,
        )
        self._finish(batch)

    def taken_apart(self, outgoing: Outgoing) -> bool:
        """Whether a write that was taken was one of the experiment: then the run's sequence is still to be used up."""
        if outgoing.void or outgoing.batch.method is not Method.UPDATE_EXPERIMENT:
            return False
        outgoing.void = True
        self.return_(outgoing)
        return True

    def return_(self, outgoing: Outgoing) -> None:
        """A batch was not taken; it is to be sent again, before what comes after it."""
        self._under_way.pop(outgoing.batch.sequence, None)
        self._again.append(outgoing)

    def refuse(self, outgoing: Outgoing, reason: str, directory: Path) -> None:
        """The server can never take it: it is put aside, and a void write is sent in its place, once it lies there."""
        self._under_way.pop(outgoing.batch.sequence, None)
        self._refused.append((outgoing, directory / "refused", reason))
        self._put_aside()

    def publish(self, connection: Connection, message: str, *, last_contact: float, stop_requested: bool) -> None:
        """Tells the process how things are."""
        self.status = replace(
            self.status,
            connection=connection,
            message=message,
            last_contact=last_contact,
            stop_requested=stop_requested,
            beats=self.status.beats + 1,
        )
        self._page.write(self.status)

    def left_bytes(self) -> int:
        """Bytes of the journal that have not been deleted."""
        return self.folder.size()

    def remove(self) -> None:
        """Deletes the journal; only when nothing is pending and nobody owns it."""
        self.close()
        self.folder.remove()

    def close(self) -> None:
        """Closes its files."""
        self._reader.close()
        self._page.close()

    def _read(self) -> Outgoing | None:
        if self.drained:
            return None
        while True:
            # Asked first: what a process wrote before it ended is then all there.
            owned = self.owned
            batch = self._reader.next_batch(owned=owned)
            self._delete_segments()
            if batch is None:
                self.drained = not owned or self._reader.closed_at is not None
                return None
            self._unfinished[batch.segment] += 1
            if batch.sequence <= self.status.acknowledged:
                # An earlier sender has sent it.
                self._finish(batch)
                continue
            return Outgoing(batch)

    def _put_aside(self) -> None:
        """Puts aside what was refused. What finds no room on disk stays in the journal until it does."""
        while self._refused:
            outgoing, refused, reason = self._refused[0]
            stem = f"{self.identity.run_id}~{self.identity.writer_id}~{outgoing.batch.sequence}"
            method, request = self.request(outgoing)
            try:
                refused.mkdir(mode=0o750, exist_ok=True)
                (refused / f"{stem}.{method}").write_bytes(request)
                (refused / f"{stem}.reason").write_text(f"{reason}\n", encoding="utf-8")
            except OSError:
                return
            self._refused.popleft()
            self.status = replace(self.status, refused=self.status.refused + 1)
            outgoing.void = True
            self._again.append(outgoing)

    def _finish(self, batch: Batch) -> None:
        self._unfinished[batch.segment] -= 1
        self._delete_segments()

    def _delete_segments(self) -> None:
        """Deletes segments that were read to their end and of which everything has arrived; never the last with a header."""
        for number in range(self._deleted_to + 1, self._reader.begun):
            if self._unfinished[number]:
                return
            with contextlib.suppress(OSError):
                # Gone already, or not to be deleted: what was sent stays sent.
                self.folder.segment_path(number).unlink()
            del self._unfinished[number]
            self._deleted_to = number
