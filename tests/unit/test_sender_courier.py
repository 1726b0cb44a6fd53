"""The loop that sends journals, against a server made of a function: outages, refusals, and several journals at once."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.journals import IDENTITY, TIME, new_writer, small
from tracker.v1 import tracker_service_pb2 as calls
from tracker_client import errors, retry
from tracker_client.endpoint import Endpoint
from tracker_client.errors import TrackerError
from tracker_client.journal.folder import create_folder, list_folders
from tracker_client.journal.frames import Identity, Method
from tracker_client.journal.status import Connection
from tracker_client.journal.writer import JournalWriter
from tracker_client.sender import courier as courier_module
from tracker_client.sender import link as link_module
from tracker_client.sender import sync as sync_module
from tracker_client.sender.courier import Courier
from tracker_client.sender.lock import sender_at_work, take_sender_lock
from tracker_client.sender.outbox import Outbox, Outgoing
from tracker_client.sender.sync import sync_directory
from tracker_client.sender.transport import Answer

_UNAVAILABLE = errors.Unavailable("UNAVAILABLE: no route", code="UNAVAILABLE")
_INVALID = errors.InvalidRequest("wrong", code="INVALID_ARGUMENT", reason="INVALID_REQUEST")
_WRONG_KEY = errors.Unauthenticated("none of ours", code="UNAUTHENTICATED", reason="INVALID_API_KEY")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
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


class _Server:
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

    def connect(self, _: Endpoint) -> _Server:
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


def _journal(directory: Path, number: int = 0, rows: int = 500) -> JournalWriter:
    identity = replace(IDENTITY, run_id=f"run-{number}", writer_id=f"writer-{number:020d}")
    writer, _ = new_writer(directory, identity)
    for step in range(rows):
        writer.append({"a": float(step)}, step, TIME)
    return writer


def _end(writer: JournalWriter) -> int:
    last = writer.close()
    writer.release()
    return last


def _courier(directory: Path, server: _Server, belongs: Callable[[Identity], bool] = lambda _: True) -> Courier:
    return Courier(directory, Endpoint("nowhere:1"), belongs, server.connect)


def _turn(courier: Courier, until: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline, "it did not come about"
        courier.turn()


def _all_sent(directory: Path) -> Callable[[], bool]:
    return lambda: not list_folders(directory)


def test_a_journal_is_sent_closed_and_deleted(tmp_path: Path) -> None:
    server = _Server()
    writer = _journal(tmp_path)
    last = _end(writer)
    courier = _courier(tmp_path, server)
    _turn(courier, _all_sent(tmp_path))
    assert server.points(writer.identity.writer_id) == list(range(500))
    assert server.closed == {writer.identity.writer_id: last}
    assert courier.points == 500
    assert not courier.pending
    assert not courier.owned
    courier.close()


def test_a_living_process_is_sent_as_it_logs_and_told_how_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "FIRST_HEARTBEAT_SECONDS", 0.0)
    server = _Server()
    server.stop = True
    writer = _journal(tmp_path, rows=0)
    courier = _courier(tmp_path, server)
    for step in range(5):
        writer.append({"a": float(step)}, step, TIME)
        writer.end_batch()
        _turn(courier, lambda step=step: writer.status.read().points == step + 1)  # type: ignore[misc]  # bound at once
    status = writer.status.read()
    assert (status.connection, status.acknowledged, status.write_token) == (Connection.CONNECTED, 5, "t")
    _turn(courier, lambda: writer.status.stop_requested)
    assert courier.owned
    writer.close()
    _turn(courier, lambda: writer.status.read().closed)
    assert writer.folder.path.exists()
    writer.release()
    _turn(courier, _all_sent(tmp_path))
    courier.close()


def test_a_heartbeat_that_failed_is_sent_again_long_before_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "FIRST_HEARTBEAT_SECONDS", 30.0)
    monkeypatch.setattr(courier_module, "HEARTBEAT_RETRY_SECONDS", 0.001)
    server = _Server()
    server.error = lambda method, _: _UNAVAILABLE if method == "Heartbeat" else None
    writer = _journal(tmp_path, rows=1)
    writer.end_batch()
    courier = _courier(tmp_path, server)
    _turn(courier, lambda: courier.points)
    courier._heartbeats = dict.fromkeys(courier._heartbeats, 0.0)
    _turn(courier, lambda: server.calls.count("Heartbeat") == 3)
    server.error = lambda _, __: None
    _turn(courier, lambda: server.calls.count("Heartbeat") == 4 and not server.waiting)
    for _ in range(20):
        courier.turn()
    assert server.calls.count("Heartbeat") == 4
    _end(writer)
    courier.close()


def test_outages_at_any_moment_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    server = _Server()
    writer = _journal(tmp_path)
    _end(writer)
    asked: Counter[bytes] = Counter()

    def error(method: str, request: bytes) -> TrackerError | None:
        asked[request] += 1
        if method != "LogMetrics" or asked[request] > 3:
            return None
        if asked[request] == 2:
            # It was taken, and the answer is lost.
            server._take(method, request)
        return _UNAVAILABLE

    server.error = error
    courier = _courier(tmp_path, server)
    _turn(courier, _all_sent(tmp_path))
    assert server.points(writer.identity.writer_id) == list(range(500))
    courier.close()


def test_during_an_outage_one_call_at_a_time_finds_out(tmp_path: Path) -> None:
    server = _Server()
    writer = _journal(tmp_path)
    server.error = lambda _, __: _UNAVAILABLE
    courier = _courier(tmp_path, server)
    _turn(courier, lambda: writer.status.read().connection is Connection.UNREACHABLE)
    before = len(server.calls)
    for _ in range(10):
        courier.turn()
        assert len(server.waiting) <= 1
    assert len(server.calls) - before <= 10
    assert writer.status.read().message == "UNAVAILABLE: no route"
    assert courier.message == "UNAVAILABLE: no route"
    server.error = lambda _, __: None
    _end(writer)
    _turn(courier, _all_sent(tmp_path))
    assert server.points(writer.identity.writer_id) == list(range(500))
    courier.close()


def test_with_a_wrong_key_everything_waits_and_is_sent_with_the_right_one(tmp_path: Path) -> None:
    server = _Server()
    writer = _journal(tmp_path)
    server.error = lambda _, __: _WRONG_KEY
    courier = _courier(tmp_path, server)
    _turn(courier, lambda: writer.status.read().connection is Connection.REFUSED)
    assert writer.status.read().acknowledged == 0
    courier.close()
    server.error = lambda _, __: None
    following = _courier(tmp_path, server)
    _end(writer)
    _turn(following, _all_sent(tmp_path))
    assert server.points(writer.identity.writer_id) == list(range(500))
    assert not (tmp_path / "refused").exists()
    following.close()


def test_a_refused_write_is_put_aside_and_the_others_go_on(tmp_path: Path) -> None:
    server = _Server()
    writer = _journal(tmp_path)
    last = _end(writer)

    def error(method: str, request: bytes) -> TrackerError | None:
        log = calls.LogMetricsRequest.FromString(request) if method == "LogMetrics" else None
        return _INVALID if log is not None and log.sequence == 2 and log.blocks else None

    server.error = error
    courier = _courier(tmp_path, server)
    _turn(courier, _all_sent(tmp_path))
    void = server.taken[writer.identity.writer_id, 2]
    (aside,) = (tmp_path / "refused").glob("*.LogMetrics")
    lost = sum(len(block.steps) for block in calls.LogMetricsRequest.FromString(aside.read_bytes()).blocks)
    assert void.dropped_points == lost > 0
    assert len(server.points(writer.identity.writer_id)) == 500 - lost
    assert {sequence for _, sequence in server.taken} == set(range(1, last + 1))
    assert courier.refused == 1
    courier.close()


def test_bytes_under_way_are_bounded_and_all_journals_get_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "BYTES_UNDER_WAY", 6000)
    server = _Server()
    writers = [_journal(tmp_path, number, rows=2000) for number in range(6)]
    courier = _courier(tmp_path, server)
    _turn(courier, lambda: min(writer.status.read().acknowledged for writer in writers) > 5)
    arrived = [writer.status.read().acknowledged for writer in writers]
    assert max(arrived) - min(arrived) <= 8
    for writer in writers:
        _end(writer)
    _turn(courier, _all_sent(tmp_path))
    assert server.most_bytes <= 6000 + 2500
    for writer in writers:
        assert server.points(writer.identity.writer_id) == list(range(2000))
    courier.close()


def test_a_journal_that_is_just_being_made_is_found_when_it_is_made(tmp_path: Path) -> None:
    """Between the folder and its first segment there is a moment in which nobody can say whose it is."""
    server = _Server()
    courier = _courier(tmp_path, server)
    folder, lock = create_folder(tmp_path, IDENTITY)
    for _ in range(5):
        courier.turn()
        time.sleep(0.003)
    other, _ = new_writer(tmp_path / "elsewhere")
    other.append({"a": 1.0}, 0, TIME)
    other.close()
    other.folder.segment_path(1).rename(folder.segment_path(1))
    _turn(courier, lambda: server.points(IDENTITY.writer_id) == [1.0])
    os.close(lock)
    courier.close()


def test_one_journal_that_cannot_be_read_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = _Server()
    spoilt, good = _journal(tmp_path, 0), _journal(tmp_path, 1)
    _end(spoilt)
    _end(good)
    real = Outbox.next

    def next_(outbox: Outbox, *, probing: bool) -> Outgoing | None:
        if outbox.folder.path == spoilt.folder.path:
            raise OSError("input/output error")
        return real(outbox, probing=probing)

    monkeypatch.setattr(Outbox, "next", next_)
    courier = _courier(tmp_path, server)
    _turn(courier, lambda: not good.folder.path.exists())
    assert server.points(good.identity.writer_id) == list(range(500))
    assert [outbox.folder.path for outbox in courier.pending] == [spoilt.folder.path]
    courier.close()


def test_journals_of_others_are_left_alone(tmp_path: Path) -> None:
    server = _Server()
    mine, other = _journal(tmp_path, 0), _journal(tmp_path, 1)
    _end(mine)
    _end(other)
    courier = _courier(tmp_path, server, lambda identity: identity.run_id == "run-0")
    _turn(courier, lambda: not mine.folder.path.exists())
    assert other.folder.path.exists()
    assert not courier.pending
    courier.close()


def test_a_hanging_server_holds_nothing_but_what_is_under_way(tmp_path: Path) -> None:
    server = _Server()
    server.hangs = True
    writer = _journal(tmp_path)
    courier = _courier(tmp_path, server)
    for _ in range(20):
        courier.turn()
    assert server.calls == ["LogMetrics"] * 4
    server.hangs = False
    _end(writer)
    _turn(courier, _all_sent(tmp_path))
    courier.close()


# ---------------------------------------------------------------- sync


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, _Server]:
    """By address: whatever sync connects to."""
    made: dict[str, _Server] = {}

    def connected(directory: Path, to: Endpoint, belongs: Callable[[Identity], bool]) -> Courier:
        return Courier(directory, to, belongs, made.setdefault(to.target, _Server()).connect)

    monkeypatch.setattr(sync_module, "Courier", connected)
    return made


def test_sync_sends_what_dead_processes_have_left(tmp_path: Path, servers: dict[str, _Server]) -> None:
    writers = [_journal(tmp_path, number) for number in range(3)]
    for writer in writers:
        _end(writer)
    heard: list[int] = []
    report = sync_directory(tmp_path, api_key="", progress=lambda progress: heard.append(progress.points))
    assert (report.points, report.sent, report.left, report.running, report.complete) == (1500, 3, 0, 0, True)
    assert heard[-1] == 1500
    assert all(servers["127.0.0.1:1"].points(each.identity.writer_id) == list(range(500)) for each in writers)


def test_sync_to_another_server_takes_nothing_of_running_processes_there(
    tmp_path: Path, servers: dict[str, _Server]
) -> None:
    dead, alive = _journal(tmp_path, 0), _journal(tmp_path, 1)
    _end(dead)
    report = sync_directory(tmp_path, server="10.0.0.1:5", api_key="")
    assert (report.sent, report.running) == (1, 1)
    assert servers["10.0.0.1:5"].points(dead.identity.writer_id) == list(range(500))
    assert servers["10.0.0.1:5"].points(alive.identity.writer_id) == []
    assert alive.status.read().acknowledged == 0


def test_sync_ends_in_time_and_says_what_is_left(
    tmp_path: Path, servers: dict[str, _Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only the server's answers move: each takes a tenth of a second."""
    answers = 0

    def failing(_: str, __: bytes) -> TrackerError:
        nonlocal answers
        answers += 1
        if answers > 100:
            pytest.fail("it goes on for ever")
        return _UNAVAILABLE

    monkeypatch.setattr(sync_module, "time", SimpleNamespace(monotonic=lambda: answers / 10))
    _end(_journal(tmp_path))
    servers["127.0.0.1:1"] = down = _Server()
    down.error = failing
    report = sync_directory(tmp_path, api_key="", timeout=2)
    assert answers == 20
    assert (report.left, report.points, report.complete) == (1, 0, False)
    assert report.message == "UNAVAILABLE: no route"


def test_sync_names_journals_that_are_nobodys_and_removes_empty_ones(
    tmp_path: Path, servers: dict[str, _Server]
) -> None:
    spoilt = _journal(tmp_path, 0)
    _end(spoilt)
    for number in spoilt.folder.segment_numbers():
        path = spoilt.folder.segment_path(number)
        path.write_bytes(bytes(100) + path.read_bytes()[100:])
    empty = _journal(tmp_path, 1)
    _end(empty)
    for number in empty.folder.segment_numbers():
        empty.folder.segment_path(number).unlink()
    report = sync_directory(tmp_path, api_key="")
    assert report.unreadable == (spoilt.folder.path,)
    assert not report.complete
    assert not empty.folder.path.exists()
    assert servers == {}


def test_sync_waits_for_a_sender_that_is_at_work(
    tmp_path: Path, servers: dict[str, _Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "WAIT_FOR_SENDER_SECONDS", 0.01)
    _end(_journal(tmp_path))
    lock = take_sender_lock(tmp_path, IDENTITY.server)
    assert lock is not None
    assert sender_at_work(tmp_path, IDENTITY.server)
    report = sync_directory(tmp_path, api_key="", timeout=0.05)
    assert (report.left, report.message) == (1, "another sender is at work")
    assert servers == {}
    free = threading.Timer(0.1, os.close, (lock,))
    free.start()
    assert sync_directory(tmp_path, api_key="", timeout=10).complete
    free.join()
    assert not sender_at_work(tmp_path, IDENTITY.server)


def test_messages_go_to_their_own_calls(tmp_path: Path) -> None:
    server = _Server()
    writer = _journal(tmp_path, rows=0)
    for method in Method:
        writer.message(method, lambda _: b"")
    _end(writer)
    courier = _courier(tmp_path, server)
    _turn(courier, _all_sent(tmp_path))
    assert [name for name in server.calls if name != "GetServerInfo"] == [
        "StartRun",
        "UpdateRun",
        "RunCompleted",
        # What is of the experiment, and the void write that uses up the run's sequence.
        "UpdateExperiment",
        "LogMetrics",
        "RewindRun",
        "CloseWriter",
    ]
    courier.close()
