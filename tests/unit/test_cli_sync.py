"""`tracker sync`: what it says and how it ends, whatever the sending does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tracker_client.cli import syncing
from tracker_client.sender.sync import SyncProgress, SyncReport
from tracker_client.settings import BadSetting

_REPORT = SyncReport(points=1_234, sent=2, left=0, running=0, unreadable=(), refused=0, message="")
_AWAY = "UNAVAILABLE: failed to connect"
Calls = list[dict[str, Any]]
Sync = Callable[..., Calls]


@pytest.fixture
def sync(monkeypatch: pytest.MonkeyPatch) -> Sync:
    """Says what the sending tells on its way and comes to, or raises. Gives the calls of it."""

    def outcome(result: SyncReport | BaseException, *told: SyncProgress) -> Calls:
        calls: Calls = []

        def sync_directory(directory: Path, *, progress: Callable[[SyncProgress], None], **given: Any) -> SyncReport:
            calls.append({"directory": directory, **given})
            for one in told:
                progress(one)
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(syncing, "sync_directory", sync_directory)
        return calls

    return outcome


def _run(directory: Path | None, *, timeout: float | None = 5.0, **more: Any) -> int:
    return syncing.run_sync(directory, server="127.0.0.1:1", api_key="key", timeout=timeout, **more)


def test_all_sent(sync: Sync, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = sync(_REPORT)
    assert _run(tmp_path) == 0
    assert capsys.readouterr() == ("sent 1,234 points; 2 journals done\n", "")
    assert calls == [{"directory": tmp_path, "server": "127.0.0.1:1", "api_key": "key", "timeout": 5.0}]


def test_the_directory_comes_from_the_environment(sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = sync(_REPORT)
    monkeypatch.setenv("TRACKER_DIR", str(tmp_path))
    assert _run(None) == 0
    assert calls[0]["directory"] == tmp_path


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (replace(_REPORT, left=3, message=_AWAY), 3, f"3 journals not sent: {_AWAY}; what was not sent stays in"),
        (replace(_REPORT, left=1, message="the key is wrong"), 1, "1 journal not sent: the key is wrong; what"),
        (replace(_REPORT, left=1), 1, "1 journal not sent; what was not sent stays in"),
        (replace(_REPORT, unreadable=(Path("odd"),)), 1, "odd: not readable"),
        (replace(_REPORT, refused=2), 1, "2 writes refused by the server; they are kept in"),
        (BadSetting("server is 'x'; it must be HOST:PORT"), 2, "server is 'x'; it must be HOST:PORT"),
        (PermissionError(13, "Permission denied", "journals"), 1, "journals: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted; what was not sent stays in"),
    ],
)
def test_what_is_not_sent_is_said(
    sync: Sync, tmp_path: Path, capsys: pytest.CaptureFixture[str], result: Any, code: int, said: str
) -> None:
    sync(result)
    assert _run(tmp_path) == code
    assert said in capsys.readouterr().err


def test_processes_that_still_run_are_no_failure(
    sync: Sync, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sync(replace(_REPORT, running=1))
    assert _run(tmp_path) == 0
    assert "1 journal of processes that still run" in capsys.readouterr().out


def _told(*, points: int = 0, message: str = _AWAY) -> SyncProgress:
    return SyncProgress(journals=1, points=points, left_bytes=100, message=message)


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ([_told(), _told()], 3),
        ([_told(message="the key is wrong")] * 2, 1),
        ([_told(), _told(points=1)], 0),
        ([_told(message=""), _told(message="")], 0),
    ],
    ids=["no answer", "refused", "something goes through", "nothing is wrong"],
)
def test_it_gives_up_when_nothing_goes_through(
    sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[SyncProgress], code: int
) -> None:
    monkeypatch.setattr(syncing, "PATIENCE_SECONDS", 0.0)
    sync(_REPORT, *told)
    assert _run(tmp_path, timeout=None) == code


def test_with_a_time_out_it_waits_for_that(sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "PATIENCE_SECONDS", 0.0)
    sync(_REPORT, _told(), _told())
    seen: list[SyncProgress] = []
    assert _run(tmp_path, timeout=60.0, progress=seen.append) == 0
    assert len(seen) == 2
