"""`tracker sync`: what it says and how it ends, whatever the sending does."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tracker_client.cli.syncing import run_sync
from tracker_client.errors import Unauthenticated, Unavailable


@dataclass(frozen=True)
class _Report:
    runs: int = 2
    points: int = 1_234
    unsent_points: int = 0
    problems: tuple[str, ...] = ()


Sync = Callable[[Any], list[dict[str, Any]]]


@pytest.fixture
def sync(monkeypatch: pytest.MonkeyPatch) -> Sync:
    """Says what the sending comes to: a report, or an error. Gives the calls of it."""

    def outcome(result: Any) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def sync_directory(directory: Path, **given: Any) -> Any:
            calls.append({"directory": directory, **given})
            if isinstance(result, BaseException):
                raise result
            return result

        module = types.ModuleType("tracker_client.sender.sync")
        vars(module)["sync_directory"] = sync_directory
        monkeypatch.setitem(sys.modules, "tracker_client.sender", types.ModuleType("tracker_client.sender"))
        monkeypatch.setitem(sys.modules, "tracker_client.sender.sync", module)
        return calls

    return outcome


def _run(directory: Path | None) -> int:
    return run_sync(directory, server="127.0.0.1:1", api_key="key", timeout=5.0)


def test_all_sent(sync: Sync, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = sync(_Report())
    assert _run(tmp_path) == 0
    assert capsys.readouterr() == (f"sent 1,234 points of 2 runs from {tmp_path}\n", "")
    given = {"server": "127.0.0.1:1", "api_key": "key", "timeout": 5.0, "progress": None}
    assert calls == [{"directory": tmp_path, **given}]


def test_the_directory_comes_from_the_environment(sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = sync(_Report())
    monkeypatch.setenv("TRACKER_DIR", str(tmp_path))
    assert _run(None) == 0
    assert calls[0]["directory"] == tmp_path


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (_Report(unsent_points=7), 1, "7 points not sent; they stay in"),
        (_Report(problems=("journal-1: torn",)), 1, "tracker: journal-1: torn\n"),
        (Unavailable("away", code="UNAVAILABLE"), 3, "no tracker answers at 127.0.0.1:1 (away)"),
        (Unauthenticated("no", code="UNAUTHENTICATED"), 1, "give a key with --api-key or TRACKER_API_KEY"),
        (KeyboardInterrupt(), 130, "what was not sent is still there"),
    ],
)
def test_what_is_not_sent_is_said(
    sync: Sync, tmp_path: Path, capsys: pytest.CaptureFixture[str], result: Any, code: int, said: str
) -> None:
    sync(result)
    assert _run(tmp_path) == code
    assert said in capsys.readouterr().err
