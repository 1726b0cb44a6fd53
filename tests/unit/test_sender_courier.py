"""The loop that sends journals, against a server made of a function: outages, refusals, and several journals at once."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.couriers import (
    INVALID,
    UNAVAILABLE,
    WRONG_KEY,
    Server,
    all_sent,
    courier_of,
    end,
    make_journal,
    quick,
    turn,
)
from tests.unit.journals import IDENTITY, TIME, new_writer
from tracker.v1 import tracker_service_pb2 as calls
from tracker_client import retry
from tracker_client.errors import TrackerError
from tracker_client.journal.folder import create_folder
from tracker_client.journal.frames import Method
from tracker_client.journal.status import Connection
from tracker_client.sender import courier as courier_module
from tracker_client.sender import link as link_module
from tracker_client.sender.outbox import Outbox, Outgoing


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with quick(monkeypatch):
        yield


def test_a_journal_is_sent_closed_and_deleted(tmp_path: Path) -> None:
    server = Server()
    writer = make_journal(tmp_path)
    last = end(writer)
    courier = courier_of(tmp_path, server)
    turn(courier, all_sent(tmp_path))
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
    server = Server()
    server.stop = True
    writer = make_journal(tmp_path, rows=0)
    courier = courier_of(tmp_path, server)
    for step in range(5):
        writer.append({"a": float(step)}, step, TIME)
        writer.end_batch()
        turn(courier, lambda step=step: writer.status.read().points == step + 1)  # type: ignore[misc]  # bound at once
    status = writer.status.read()
    assert (status.connection, status.acknowledged, status.write_token) == (Connection.CONNECTED, 5, "t")
    turn(courier, lambda: writer.status.stop_requested)
    assert courier.owned
    writer.close()
    turn(courier, lambda: writer.status.read().closed)
    assert writer.folder.path.exists()
    writer.release()
    turn(courier, all_sent(tmp_path))
    courier.close()


def test_a_heartbeat_that_failed_is_sent_again_long_before_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "FIRST_HEARTBEAT_SECONDS", 30.0)
    monkeypatch.setattr(courier_module, "HEARTBEAT_RETRY_SECONDS", 0.001)
    server = Server()
    server.error = lambda method, _: UNAVAILABLE if method == "Heartbeat" else None
    writer = make_journal(tmp_path, rows=1)
    writer.end_batch()
    courier = courier_of(tmp_path, server)
    turn(courier, lambda: courier.points)
    courier._heartbeats = dict.fromkeys(courier._heartbeats, 0.0)
    turn(courier, lambda: server.calls.count("Heartbeat") == 3)
    server.error = lambda _, __: None
    turn(courier, lambda: server.calls.count("Heartbeat") == 4 and not server.waiting)
    for _ in range(20):
        courier.turn()
    assert server.calls.count("Heartbeat") == 4
    end(writer)
    courier.close()


def test_outages_at_any_moment_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    server = Server()
    writer = make_journal(tmp_path)
    end(writer)
    asked: Counter[bytes] = Counter()

    def error(method: str, request: bytes) -> TrackerError | None:
        asked[request] += 1
        if method != "LogMetrics" or asked[request] > 3:
            return None
        if asked[request] == 2:
            # It was taken, and the answer is lost.
            server._take(method, request)
        return UNAVAILABLE

    server.error = error
    courier = courier_of(tmp_path, server)
    turn(courier, all_sent(tmp_path))
    assert server.points(writer.identity.writer_id) == list(range(500))
    courier.close()


def test_during_an_outage_one_call_at_a_time_finds_out(tmp_path: Path) -> None:
    server = Server()
    writer = make_journal(tmp_path)
    server.error = lambda _, __: UNAVAILABLE
    courier = courier_of(tmp_path, server)
    turn(courier, lambda: writer.status.read().connection is Connection.UNREACHABLE)
    before = len(server.calls)
    for _ in range(10):
        courier.turn()
        assert len(server.waiting) <= 1
    assert len(server.calls) - before <= 10
    assert writer.status.read().message == "UNAVAILABLE: no route"
    assert courier.message == "UNAVAILABLE: no route"
    server.error = lambda _, __: None
    end(writer)
    turn(courier, all_sent(tmp_path))
    assert server.points(writer.identity.writer_id) == list(range(500))
    courier.close()


def test_with_a_wrong_key_everything_waits_and_is_sent_with_the_right_one(tmp_path: Path) -> None:
    server = Server()
    writer = make_journal(tmp_path)
    server.error = lambda _, __: WRONG_KEY
    courier = courier_of(tmp_path, server)
    turn(courier, lambda: writer.status.read().connection is Connection.REFUSED)
    assert writer.status.read().acknowledged == 0
    courier.close()
    server.error = lambda _, __: None
    following = courier_of(tmp_path, server)
    end(writer)
    turn(following, all_sent(tmp_path))
    assert server.points(writer.identity.writer_id) == list(range(500))
    assert not (tmp_path / "refused").exists()
    following.close()


def test_a_refused_write_is_put_aside_and_the_others_go_on(tmp_path: Path) -> None:
    server = Server()
    writer = make_journal(tmp_path)
    last = end(writer)

    def error(method: str, request: bytes) -> TrackerError | None:
        log = calls.LogMetricsRequest.FromString(request) if method == "LogMetrics" else None
        return INVALID if log is not None and log.sequence == 2 and log.blocks else None

    server.error = error
    courier = courier_of(tmp_path, server)
    turn(courier, all_sent(tmp_path))
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
    server = Server()
    writers = [make_journal(tmp_path, number, rows=2000) for number in range(6)]
    courier = courier_of(tmp_path, server)
    turn(courier, lambda: min(writer.status.read().acknowledged for writer in writers) > 5)
    arrived = [writer.status.read().acknowledged for writer in writers]
    assert max(arrived) - min(arrived) <= 8
    for writer in writers:
        end(writer)
    turn(courier, all_sent(tmp_path))
    assert server.most_bytes <= 6000 + 2500
    for writer in writers:
        assert server.points(writer.identity.writer_id) == list(range(2000))
    courier.close()


def test_a_journal_that_is_just_being_made_is_found_when_it_is_made(tmp_path: Path) -> None:
    """Between the folder and its first segment there is a moment in which nobody can say whose it is."""
    server = Server()
    courier = courier_of(tmp_path, server)
    folder, lock = create_folder(tmp_path, IDENTITY)
    for _ in range(5):
        courier.turn()
        time.sleep(0.003)
    other, _ = new_writer(tmp_path / "elsewhere")
    other.append({"a": 1.0}, 0, TIME)
    other.close()
    other.folder.segment_path(1).rename(folder.segment_path(1))
    turn(courier, lambda: server.points(IDENTITY.writer_id) == [1.0])
    os.close(lock)
    courier.close()


def test_one_journal_that_cannot_be_read_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    spoilt, good = make_journal(tmp_path, 0), make_journal(tmp_path, 1)
    end(spoilt)
    end(good)
    real = Outbox.next

    def next_(outbox: Outbox, *, probing: bool) -> Outgoing | None:
        if outbox.folder.path == spoilt.folder.path:
            raise OSError("input/output error")
        return real(outbox, probing=probing)

    monkeypatch.setattr(Outbox, "next", next_)
    courier = courier_of(tmp_path, server)
    turn(courier, lambda: not good.folder.path.exists())
    assert server.points(good.identity.writer_id) == list(range(500))
    assert [outbox.folder.path for outbox in courier.pending] == [spoilt.folder.path]
    courier.close()


def test_journals_of_others_are_left_alone(tmp_path: Path) -> None:
    server = Server()
    mine, other = make_journal(tmp_path, 0), make_journal(tmp_path, 1)
    end(mine)
    end(other)
    courier = courier_of(tmp_path, server, lambda identity: identity.run_id == "run-0")
    turn(courier, lambda: not mine.folder.path.exists())
    assert other.folder.path.exists()
    assert not courier.pending
    courier.close()


def test_a_hanging_server_holds_nothing_but_what_is_under_way(tmp_path: Path) -> None:
    server = Server()
    server.hangs = True
    writer = make_journal(tmp_path)
    courier = courier_of(tmp_path, server)
    for _ in range(20):
        courier.turn()
    assert server.calls == ["LogMetrics"] * 4
    server.hangs = False
    end(writer)
    turn(courier, all_sent(tmp_path))
    courier.close()


# ---------------------------------------------------------------- sync


def test_a_process_that_waits_for_its_end_is_not_kept_waiting_by_pauses_that_have_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (link_module, retry):
        monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 3600.0)
    monkeypatch.setattr(retry, "MAX_DELAY_SECONDS", 3600.0)
    monkeypatch.setattr(link_module, "AWAITED_PAUSE_SECONDS", 0.001)
    server = Server()
    server.error = lambda _method, _request: UNAVAILABLE
    writer = make_journal(tmp_path)
    courier = courier_of(tmp_path, server)
    turn(courier, lambda: writer.status.read().connection is Connection.UNREACHABLE)
    server.error = lambda _method, _request: None
    last = writer.close()
    writer.folder.awaited_path.touch()
    turn(courier, lambda: writer.status.read().closed)
    assert server.closed == {writer.identity.writer_id: last}
    writer.release()
    courier.close()


def test_messages_go_to_their_own_calls(tmp_path: Path) -> None:
    server = Server()
    writer = make_journal(tmp_path, rows=0)
    for method in Method:
        writer.message(method, lambda _: b"")
    end(writer)
    courier = courier_of(tmp_path, server)
    turn(courier, all_sent(tmp_path))
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
