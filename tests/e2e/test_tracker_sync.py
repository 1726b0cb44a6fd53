"""`tracker sync` sends what runs have left, with the base install too."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.terminal import NOWHERE, Done, environment, in_pipe, on_terminal, rows
from tests.e2e.tracked import Tracked

_PATH = os.pathsep.join(path for path in sys.path if path)
_OFFLINE = """
import tracker_client as tracker
with tracker.init(experiment="offline", run_id={run_id!r}, mode="offline", capture=False) as run:
    for step in range(500):
        run.log({{"loss": 1 / (step + 1)}}, step=step)
"""


@pytest.mark.parametrize("shell", [in_pipe, on_terminal])
def test_sync_sends_what_a_run_has_left(tracked: Tracked, tmp_path: Path, shell: Callable[..., Done]) -> None:
    run_id = f"offline-{uuid.uuid4().hex[:8]}"
    left = subprocess.run(
        [sys.executable, "-c", _OFFLINE.format(run_id=run_id)],
        env={**environment(NOWHERE), "PYTHONPATH": _PATH, "TRACKER_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert left.returncode == 0, left.stderr
    away = shell(NOWHERE, "sync", str(tmp_path), "--timeout", "0.5")
    assert away.code == 3
    assert "1 journal not sent: UNAVAILABLE" in " ".join((away.out + away.err).split())
    done = shell(tracked.address, "sync", str(tmp_path), "--server", tracked.address)
    assert done.code == 0
    assert "sent 500 points; 1 journal done" in done.out
    assert "sent 0 points" in shell(tracked.address, "sync", str(tmp_path)).out
    found = rows(in_pipe(tracked.address, "history", run_id, "loss").out)
    assert [int(row["step"]) for row in found] == list(range(500))


def test_sync_of_nothing(tracked: Tracked, tmp_path: Path) -> None:
    done = in_pipe(tracked.address, "sync", cwd=tmp_path)
    assert (done.code, done.out) == (0, "nothing to send: there is no directory .tracker\n")
    done = in_pipe(tracked.address, "sync", "elsewhere", cwd=tmp_path)
    assert done.code == 2
    assert "there is no directory elsewhere" in done.err


_WITHOUT_TYPER = "import sys; sys.modules['typer'] = None; from tracker_client.cli import main; main()"


def _base_install(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As where only grpcio and protobuf are installed: importing typer fails."""
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT_TYPER, *arguments],
        cwd=cwd,
        env={**environment(NOWHERE), "PYTHONPATH": _PATH},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", [[], ["runs"], ["--help"], ["version"]])
def test_the_base_install_says_what_to_install(arguments: list[str], tmp_path: Path) -> None:
    done = _base_install(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("needs the extra `cli`: pip install 'experiment-tracker[cli]'\n")
    assert done.stderr.count("\n") == 1


def test_the_base_install_syncs(tmp_path: Path) -> None:
    done = _base_install("sync", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "nothing to send: there is no directory .tracker\n")
    assert _base_install("sync", "--timeout", "soon", cwd=tmp_path).returncode == 2
