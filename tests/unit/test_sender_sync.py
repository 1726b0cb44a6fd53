"""`tracker sync` in a process: what dead processes have left, to the server that each named."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.couriers import (
    UNAVAILABLE,
    Server,
    end,
    make_journal,
    quick,
)
from tests.unit.journals import IDENTITY
from tracker_client.endpoint import Endpoint
from tracker_client.errors import TrackerError
from tracker_client.journal.frames import Identity
from tracker_client.sender import sync as sync_module
from tracker_client.sender.courier import Courier
from tracker_client.sender.lock import sender_at_work, take_sender_lock
from tracker_client.sender.sync import sync_directory


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with quick(monkeypatch):
        yield


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Server]:
    """By address: whatever sync connects to."""
    made: dict[str, Server] = {}

    def connected(directory: Path, to: Endpoint, belongs: Callable[[Identity], bool], *, awaited: bool) -> Courier:
        return Courier(directory, to, belongs, made.setdefault(to.target, Server()).connect, awaited=awaited)

    monkeypatch.setattr(sync_module, "Courier", connected)
    return made


def test_sync_sends_what_dead_processes_have_left(tmp_path: Path, servers: dict[str, Server]) -> None:
    writers = [make_journal(tmp_path, number) for number in range(3)]
    for writer in writers:
        end(writer)
    heard: list[int] = []
    report = sync_directory(tmp_path, api_key="", progress=lambda progress: heard.append(progress.points))
    assert (report.points, report.sent, report.left, report.running, report.complete) == (1500, 3, 0, 0, True)
    assert heard[-1] == 1500
    assert all(servers["127.0.0.1:1"].points(each.identity.writer_id) == list(range(500)) for each in writers)


def test_sync_to_another_server_takes_nothing_of_running_processes_there(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    dead, alive = make_journal(tmp_path, 0), make_journal(tmp_path, 1)
    end(dead)
    report = sync_directory(tmp_path, server="10.0.0.1:5", api_key="")
    assert (report.sent, report.running) == (1, 1)
    assert servers["10.0.0.1:5"].points(dead.identity.writer_id) == list(range(500))
    assert servers["10.0.0.1:5"].points(alive.identity.writer_id) == []
    assert alive.status.read().acknowledged == 0


def test_sync_ends_in_time_and_says_what_is_left(
    tmp_path: Path, servers: dict[str, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only the server's answers move: each takes a tenth of a second."""
    answers = 0

    def failing(_: str, __: bytes) -> TrackerError:
        nonlocal answers
        answers += 1
        if answers > 100:
            pytest.fail("it goes on for ever")
        return UNAVAILABLE

    monkeypatch.setattr(sync_module, "time", SimpleNamespace(monotonic=lambda: answers / 10))
    end(make_journal(tmp_path))
    servers["127.0.0.1:1"] = down = Server()
    down.error = failing
    report = sync_directory(tmp_path, api_key="", timeout=2)
    assert answers == 20
    assert (report.left, report.points, report.complete) == (1, 0, False)
    assert report.message == "UNAVAILABLE: no route"


def test_sync_names_journals_that_are_nobodys_and_removes_empty_ones(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    spoilt = make_journal(tmp_path, 0)
    end(spoilt)
    for number in spoilt.folder.segment_numbers():
        path = spoilt.folder.segment_path(number)
        path.write_bytes(bytes(100) + path.read_bytes()[100:])
    empty = make_journal(tmp_path, 1)
    end(empty)
    for number in empty.folder.segment_numbers():
        empty.folder.segment_path(number).unlink()
    report = sync_directory(tmp_path, api_key="")
    assert report.unreadable == (spoilt.folder.path,)
    assert not report.complete
    assert not empty.folder.path.exists()
    assert servers == {}


def test_sync_waits_for_a_sender_that_is_at_work(
    tmp_path: Path, servers: dict[str, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "WAIT_FOR_SENDER_SECONDS", 0.01)
    end(make_journal(tmp_path))
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
