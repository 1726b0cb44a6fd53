"""Sends the journals of a directory to one server: the loop that turns until there is nothing to do."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from tracker.v1 import tracker_service_pb2 as calls
from tracker_client.endpoint import Endpoint
from tracker_client.journal.folder import list_folders, remove_debris
from tracker_client.journal.frames import Identity, Method
from tracker_client.journal.reader import JournalReader, is_blank
from tracker_client.sender.link import Link, Verdict
from tracker_client.sender.outbox import Outbox, Outgoing
from tracker_client.sender.transport import Answer, Transport

BYTES_UNDER_WAY: Final = 16 * 1024 * 1024
"""Of all journals together: bounds the memory of this process."""
TICK_SECONDS: Final = 0.01
"""How often journals are looked at for something new, while a process writes to one."""
DISCOVER_SECONDS: Final = 0.05
"""How often the directory is looked at for new journals, and each journal for whether its process lives."""
FIRST_HEARTBEAT_SECONDS: Final = 1.0
"""Then twice that, and so on up to what the server says: a young run is more likely to be stopped."""
DEFAULT_HEARTBEAT_SECONDS: Final = 30.0
"""Until the server has said how often it wants one."""
HEARTBEAT_RETRY_SECONDS: Final = 5.0
"""After one that failed: with the whole pause, a run could outlive its lease unheard in a few short outages."""
_log = logging.getLogger("tracker_client.sender")


class Calls(Protocol):
    """A connection to a server, see Transport."""

    def call(self, method: str, request: bytes, handle: Callable[[Answer], None]) -> None:
        """Sends a request."""

    def next_answer(self, seconds: float) -> Answer | None:
        """The next answer, or None when there is none within so many seconds."""

    def close(self) -> None:
        """Ends every call."""


Connect = Callable[[Endpoint], Calls]


class Courier:
    """The journals of a directory that are meant for one server."""

    def __init__(
        self,
        directory: Path,
        endpoint: Endpoint,
        belongs: Callable[[Identity], bool],
        connect: Connect = Transport,
        *,
        awaited: bool = False,
    ) -> None:
        """belongs: which journals to send, by whose they are; connect: how to reach the server; awaited: whether somebody
        waits for all of it to arrive, and not only where a journal says so."""
        self._directory = directory
        remove_debris(directory)
        self._transport = connect(endpoint)
        self._belongs = belongs
        self._outboxes: dict[Path, Outbox] = {}
        self._ignored: set[Path] = set()
        self._link = Link(time.monotonic)
        self._awaited = awaited
        self._bytes = 0
        self._calls = 0
        self._turns = 0
        self._discover_at = 0.0
        self._heartbeats: dict[Path, float] = {}
        """When the next one is due."""
        self._waits: dict[Path, float] = {}
        """Until the one after that."""
        self._heartbeat_seconds = DEFAULT_HEARTBEAT_SECONDS
        self._asked = False
        self._stop_requested: dict[Path, bool] = {}
        self._last_contact = 0.0
        self._changed: set[Path] = set()
        self.points = 0
        """Points that have arrived."""
        self.refused = 0
        """Writes that the server can never take."""
        self.progressed_at = time.monotonic()
        """When something last arrived, or a process last lived."""

    @property
    def message(self) -> str:
        """What is wrong with the server, for people; empty when nothing is."""
        return self._link.message

    @property
    def pending(self) -> list[Outbox]:
        """The journals that are not done with."""
        return [outbox for outbox in self._outboxes.values() if outbox.pending or outbox.owned]

    @property
    def owned(self) -> bool:
        """Whether a process still writes to one of the journals."""
        return any(outbox.owned for outbox in self._outboxes.values())

    def turn(self) -> None:
        """Does what can be done now, and waits for something to happen, for a moment."""
        now = time.monotonic()
        if now >= self._discover_at:
            self._discover_at = now + DISCOVER_SECONDS
            self._discover()
            self._send_heartbeats(now)
        sent = self._send()
        answer = self._transport.next_answer(0.0 if sent else self._pause())
        while answer is not None:
            self._calls -= 1
            answer.handle(answer)
            answer = self._transport.next_answer(0.0)
        self._publish()

    def sweep(self) -> None:
        """Deletes the journals that are done with."""
        for path, outbox in list(self._outboxes.items()):
            if not outbox.owned and not outbox.pending:
                outbox.remove()
                del self._outboxes[path]

    def close(self) -> None:
        """Ends every call; what was not answered is sent again by the next sender."""
        self._transport.close()
        for outbox in self._outboxes.values():
            outbox.close()

    def _pause(self) -> float:
        if not self._link.open:
            return min(self._link.wait_seconds, DISCOVER_SECONDS)
        return TICK_SECONDS if self.owned else DISCOVER_SECONDS

    # ------------------------------------------------------------ journals

    def _discover(self) -> None:
        present = {folder.path: folder for folder in list_folders(self._directory)}
        for path, folder in present.items():
            if path in self._outboxes or path in self._ignored:
                continue
            try:
                reader = JournalReader(folder)
                if reader.identity is None:
                    # It is being made, so it is looked at again; or it never was; or it is spoilt, which `sync` reports.
                    if not folder.owned():
                        if is_blank(folder):
                            folder.remove()
                        else:
                            self._ignored.add(path)
                    continue
                if not self._belongs(reader.identity):
                    self._ignored.add(path)
                    continue
                self._outboxes[path] = Outbox(folder, reader.identity, reader)
            except OSError:
                continue  # just being removed, or not readable now: looked at again
            self._heartbeats[path] = time.monotonic() + FIRST_HEARTBEAT_SECONDS
            self._waits[path] = FIRST_HEARTBEAT_SECONDS
        self._ignored &= present.keys()
        # Whatever happens, processes see now and then that somebody looks after their journals.
        self._changed |= self._outboxes.keys()
        for path, outbox in list(self._outboxes.items()):
            with contextlib.suppress(OSError):
                outbox.look()
            if outbox.owned:
                self.progressed_at = time.monotonic()
            elif path not in present:
                outbox.close()
                del self._outboxes[path]
        self._link.awaited = self._awaited or any(outbox.awaited for outbox in self._outboxes.values())
        self.sweep()

    def _publish(self) -> None:
        for path in self._changed & self._outboxes.keys():
            self._outboxes[path].publish(
                self._link.connection,
                self._link.message,
                last_contact=self._last_contact,
                stop_requested=self._stop_requested.get(path, False),
            )
        self._changed.clear()

    # ------------------------------------------------------------ sending

    def _send(self) -> bool:
        """Sends what may be sent, of each journal in turn one batch after the other."""
        sent = False
        waiting = deque(self._outboxes.values())
        # Another one begins each time: where there is room for a few only, all get some of it.
        waiting.rotate(-self._turns)
        self._turns += 1
        while waiting and self._may_send():
            outbox = waiting.popleft()
            try:
                outgoing = outbox.next(probing=not self._link.healthy)
            except OSError as error:
                # The others are sent, whatever is wrong with this one's files.
                _log.warning("%s cannot be read now: %s", outbox.folder.path, error)
                continue
            if outgoing is not None:
                method, request = outbox.request(outgoing)
                self._bytes += len(request)
                self._call(method, request, partial(self._answered, outbox, outgoing, len(request)))
                waiting.append(outbox)
            elif (last := outbox.wants_close()) is not None:
                self._close_writer(outbox, last)
            else:
                continue
            sent = True
        return sent

    def _may_send(self) -> bool:
        if not self._link.open or self._bytes >= BYTES_UNDER_WAY:
            return False
        return self._link.healthy or self._calls == 0

    def _call(self, method: str, request: bytes, handle: Callable[[Answer], None]) -> None:
        self._calls += 1
        self._transport.call(method, request, handle)

    def _answered(self, outbox: Outbox, outgoing: Outgoing, size: int, answer: Answer) -> None:
        self._bytes -= size
        self._changed.add(outbox.folder.path)
        if answer.error is None:
            self._succeeded()
            if outbox.taken_apart(outgoing):
                return
            points = 0 if outgoing.void else outgoing.batch.points
            self.points += points
            outbox.acknowledge(outgoing, _token(answer.body, outgoing))
        elif self._link.failed(answer.error, outgoing.tries) is Verdict.AGAIN:
            outbox.return_(outgoing)
        elif outgoing.void:
            # Not even that there was something can be told: the run's very name may be wrong.
            outbox.acknowledge(outgoing, "")
        else:
            self.refused += 1
            outbox.refuse(outgoing, f"{answer.error.code} {answer.error.reason} {answer.error}", self._directory)

    def _close_writer(self, outbox: Outbox, last: int) -> None:
        identity = outbox.identity
        request = calls.CloseWriterRequest(
            run_id=identity.run_id,
            writer_id=identity.writer_id,
            last_sequence=last,
            attempt=identity.attempt,
            replay=outbox.replay,
        )

        def answered(answer: Answer) -> None:
            self._changed.add(outbox.folder.path)
            if answer.error is None:
                self._succeeded()
                outbox.closed(calls.CloseWriterResponse.FromString(answer.body).write_token)
            elif self._link.failed(answer.error, 1) is Verdict.AGAIN:
                outbox.close_failed()
            else:
                outbox.closed("")

        self._call("CloseWriter", request.SerializeToString(), answered)

    def _succeeded(self) -> None:
        self._link.succeeded()
        self._last_contact = time.time()
        self.progressed_at = time.monotonic()
        if not self._asked:
            self._asked = True
            self._call("GetServerInfo", b"", self._informed)

    # ------------------------------------------------------------ heartbeats

    def _send_heartbeats(self, now: float) -> None:
        for path, outbox in self._outboxes.items():
            if outbox.owned and not outbox.drained and now >= self._heartbeats[path] and self._may_send():
                self._waits[path] = min(2 * self._waits[path], self._heartbeat_seconds)
                self._heartbeats[path] = now + self._waits[path]
                identity = outbox.identity
                request = calls.HeartbeatRequest(run_id=identity.run_id, attempt=identity.attempt)
                self._call("Heartbeat", request.SerializeToString(), partial(self._heard, path))

    def _heard(self, path: Path, answer: Answer) -> None:
        if answer.error is None:
            self._link.succeeded()
            self._last_contact = time.time()
            self._stop_requested[path] = calls.HeartbeatResponse.FromString(answer.body).stop_requested
            self._changed.add(path)
        elif path in self._heartbeats:
            self._heartbeats[path] = min(self._heartbeats[path], time.monotonic() + HEARTBEAT_RETRY_SECONDS)

    def _informed(self, answer: Answer) -> None:
        if answer.error is None:
            limits = calls.GetServerInfoResponse.FromString(answer.body).limits
            self._heartbeat_seconds = float(limits.heartbeat_seconds or DEFAULT_HEARTBEAT_SECONDS)


def _token(body: bytes, outgoing: Outgoing) -> str:
    """The write token of an answer: some have it in another field than the others, which are alike."""
    method = None if outgoing.void else outgoing.batch.method
    if method is Method.START_RUN:
        return calls.StartRunResponse.FromString(body).write_token
    if method is Method.REWIND_RUN:
        return calls.RewindRunResponse.FromString(body).write_token
    return calls.LogMetricsResponse.FromString(body).write_token
