"""The stubs and tracker_client run where training jobs run: with the oldest supported grpcio and protobuf, and the newest.

Each pair is installed, with nothing else, into an environment of its own under .cache/stub-venvs, which later runs use
again, and makes real calls to a server of the main environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from examples.embedded import embedded_server

_ROOT = Path(__file__).resolve().parents[2]
_OLDEST = ("grpcio==1.62.*", "protobuf==4.25.*")
_NEWEST = ("grpcio", "protobuf<8")
_INSTALL_SECONDS = 300


_both_ends = pytest.mark.parametrize(
    "requirements",
    [
        pytest.param(
            _OLDEST,
            id="oldest",
            marks=pytest.mark.skipif(sys.version_info >= (3, 13), reason="grpcio 1.62 has no wheels for this Python"),
        ),
        pytest.param(_NEWEST, id="newest"),
    ],
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of an embedded server."""
    with embedded_server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.mark.timeout(_INSTALL_SECONDS + 60)
@_both_ends
def test_real_calls(requirements: tuple[str, ...], address: str) -> None:
    python = _python_with(requirements)
    path = f"{_ROOT}:{_ROOT / 'generated'}"
    command = [str(python), "-W", "error", str(Path(__file__).with_name("stub_calls.py")), address]
    done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    versions = json.loads(done.stdout)
    if requirements == _OLDEST:
        assert versions["grpcio"].startswith("1.62.")
        assert versions["protobuf"].startswith("4.25.")


@pytest.mark.timeout(_INSTALL_SECONDS + 60)
@_both_ends
def test_a_training_script(requirements: tuple[str, ...], address: str, tmp_path: Path) -> None:
    """From init to finish with all captures, its sender included, without a warning."""
    python = _python_with(requirements)
    script = Path(__file__).with_name("stub_training.py")
    done = subprocess.run(
        [str(python), "-W", "error", str(script), address, str(tmp_path)],
        env={"PYTHONPATH": f"{_ROOT}:{_ROOT / 'generated'}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout


def test_the_oldest_is_what_the_package_allows() -> None:
    """What pyproject.toml promises is what is tried here."""
    dependencies = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lowest = {re.split("[<>=]", entry)[0]: re.findall(r">=([\d.]+)", entry) for entry in dependencies}
    assert lowest == {"grpcio": ["1.62"], "protobuf": ["4.25"]}
    assert any(entry.startswith("protobuf") and entry.endswith("<8") for entry in dependencies)


def _python_with(requirements: tuple[str, ...]) -> Path:
    """The interpreter of an environment that has these and nothing else; made where it is not there yet."""
    # What is not pinned is looked for anew each week.
    week = "" if all("==" in entry for entry in requirements) else f"{datetime.now(UTC):%G-%V}"
    digest = hashlib.sha256(" ".join([*requirements, sys.version, str(_ROOT), week]).encode()).hexdigest()[:16]
    directory = _ROOT / ".cache" / "stub-venvs" / digest
    python = directory / "bin" / "python"
    complete = directory / "complete"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            _run([sys.executable, "-m", "venv", "--clear", str(directory)])
            _run([str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *requirements])
            complete.touch()
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
