"""A sender's loop for tests: a server made of a function, journals for it, and pauses that nobody notices."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.journals import IDENTITY, TIME, new_writer, small
from tracker.v1 import tracker_service_pb2 as calls
from tracker_client import errors, retry
from tracker_client.endpoint import Endpoint
from tracker_client.errors import TrackerError
from tracker_client.journal.folder import list_folders
from tracker_client.journal.frames import Identity
from tracker_client.journal.writer import JournalWriter
from tracker_client.sender import courier as courier_module
from tracker_client.sender import link as link_module
from tracker_client.sender.courier import Courier
from tracker_client.sender.transport import Answer

UNAVAILABLE = errors.Unavailable("UNAVAILABLE: no route", code="UNAVAILABLE")
INVALID = errors.InvalidRequest("wrong", code="INVALID_ARGUMENT", reason="INVALID_REQUEST")
WRONG_KEY = errors.Unauthenticated("none of ours", code="UNAUTHENTICATED", reason="INVALID_API_KEY")


@contextmanager
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pauses of milliseconds, small segments and batches."""
    for module, name, value in (
        (courier_module, "TICK_SECONDS", 0.0005),
        (courier_module, "DISCOVER_SECONDS", 0.002),
        (link_module, "REFUSED_PAUSE_SECONDS", 0.01),
        (link_module, "FIRST_DELAY_SECONDS", 0.001),
        (retry, "FIRST_DELAY_SECONDS", 0.001),
        (retry, "MAX_DELAY_SECONDS", 0.01),
    ):
        monkeypatch.setattr(module, name, value)
    with small(segment_bytes=16 * 1024, batch_bytes=2048):
        yield


class Server:
    """Answers in order; keeps what it took by run, writer and sequence."""

    def __init__(self) -> None:
        self.error: Callable[[str, bytes], TrackerError | None] = lambda _, __: None
        self.hangs = False
        self.waiting: deque[tuple[str, bytes, Callable[[Answer], None]]] = deque()
        self.calls: list[str] = []
        self.taken: dict[tuple[str, int], calls.LogMetricsRequest] = {}
        self.closed: dict[str, int] = {}
        self.most_bytes = 0
        self.stop = False

    def connect(self, _: Endpoint) -> Server:
        return self

    def call(self, method: str, request: bytes, handle: Callable[[Answer], None]) -> None:
        self.calls.append(method)
        self.waiting.append((method, request, handle))
        self.most_bytes = max(self.most_bytes, sum(len(each) for _, each, _ in self.waiting))

    def next_answer(self, seconds: float) -> Answer | None:
        if not self.waiting or self.hangs:
            time.sleep(seconds)
            return None
        method, request, handle = self.waiting.popleft()
        error = self.error(method, request)
        return Answer(handle, error=error) if error is not None else Answer(handle, body=self._take(method, request))

    def close(self) -> None:
        self.waiting.clear()

    def points(self, writer_id: str) -> list[float]:
        of_writer = [each for (writer, _), each in sorted(self.taken.items()) if writer == writer_id]
        return [value for each in of_writer for block in each.blocks for value in block.columns[0].values]

    def _take(self, method: str, request: bytes) -> bytes:
        if method == "CloseWriter":
            close = calls.CloseWriterRequest.FromString(request)
            self.closed[close.writer_id] = close.last_sequence
        elif method == "LogMetrics":
            log = calls.LogMetricsRequest.FromString(request)
            known = self.taken.setdefault((log.writer_id, log.sequence), log)
            log.replay = known.replay
            assert known == log, "what is sent again must be the same"
        elif method == "Heartbeat":
            return calls.HeartbeatResponse(stop_requested=self.stop).SerializeToString()
        elif method == "GetServerInfo":
            info = calls.GetServerInfoResponse()
            info.limits.heartbeat_seconds = 1
            return info.SerializeToString()
        return calls.LogMetricsResponse(write_token="t").SerializeToString()


def make_journal(directory: Path, number: int = 0, rows: int = 500) -> JournalWriter:
    """A journal of so many rows, whose process lives."""
    identity = replace(IDENTITY, run_id=f"run-{number}", writer_id=f"writer-{number:020d}")
    writer, _ = new_writer(directory, identity)
    for step in range(rows):
        writer.append({"a": float(step)}, step, TIME)
    return writer


def end(writer: JournalWriter) -> int:
    """Its process ends. The last sequence."""
    last = writer.close()
    writer.release()
    return last


def courier_of(directory: Path, server: Server, belongs: Callable[[Identity], bool] = lambda _: True) -> Courier:
    """A sender to that server."""
    return Courier(directory, Endpoint("nowhere:1"), belongs, server.connect)


def turn(courier: Courier, until: Callable[[], object]) -> None:
    """Lets it turn until a condition holds, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline, "it did not come about"
        courier.turn()


def all_sent(directory: Path) -> Callable[[], bool]:
    """Whether no journal is left."""
    return lambda: not list_folders(directory)
