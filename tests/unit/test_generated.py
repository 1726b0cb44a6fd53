"""The stubs are what protos/ gives, and protos/check_breaking.sh sees what would break callers, in any clone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_BUF = _ROOT / ".venv" / "bin" / "buf"
_PROTO = "protos/tracker/v1/thing.proto"
_TEXT = """// Things.
syntax = "proto3";

package tracker.v1;

// A thing.
message Thing {
  // When it was.
  int64 time_unix_ms = 2;
}
"""


@pytest.mark.timeout(300)  # the first time, it installs the generator
def test_stubs_are_fresh() -> None:
    done = subprocess.run(["protos/generate.sh", "--check"], cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with a small contract in its only commit, and the real rules."""
    directory = tmp_path / "clone"
    (directory / _PROTO).parent.mkdir(parents=True)
    (directory / _PROTO).write_text(_TEXT)
    shutil.copy(_ROOT / "buf.yaml", directory)
    shutil.copy(_ROOT / "protos" / "check_breaking.sh", directory / "protos")
    _git(directory, "init", "--quiet", "--initial-branch=main")
    _commit(directory)
    return directory


def _git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _commit(directory: Path) -> None:
    _git(directory, "add", "--all")
    _git(directory, "commit", "--quiet", "--allow-empty", "--message=A state")


def _edit(directory: Path, old: str, new: str) -> None:
    path = directory / _PROTO
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def _check(directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PROTOS_"))}
    environment |= {"BUF": str(_BUF), **variables}
    return subprocess.run(
        ["protos/check_breaking.sh"], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


_FIELD = "  int64 time_unix_ms = 2;"
_BROKEN = "  int32 time_unix_ms = 2;"
_ADDED = f"{_FIELD}\n  // Something more.\n  string more = 9;"


def test_first_commit_is_held_against_itself(clone: Path) -> None:
    done = _check(clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "only held against itself" in done.stdout


def test_uncommitted_change(clone: Path) -> None:
    _edit(clone, _FIELD, _BROKEN)
    done = _check(clone)
    assert done.returncode != 0
    assert "time_unix_ms" in done.stdout


def test_committed_change_is_seen_however_many_commits_follow(clone: Path) -> None:
    _edit(clone, _FIELD, _BROKEN)
    for _ in range(3):
        _commit(clone)
    done = _check(clone)
    assert done.returncode != 0
    assert "time_unix_ms" in done.stdout


def test_addition_breaks_nobody(clone: Path) -> None:
    _edit(clone, _FIELD, _ADDED)
    for _ in range(2):
        done = _check(clone)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "itself" not in done.stdout
        _commit(clone)


def test_presence_breaks_nobody_and_repetition_does(clone: Path) -> None:
    _edit(clone, _FIELD, f"  optional{_FIELD[1:]}")
    assert _check(clone).returncode == 0
    _edit(clone, "optional", "repeated")
    assert _check(clone).returncode != 0


def test_branch_of_a_pull_request(clone: Path) -> None:
    """Two commits: the first breaks, the second does not; only the target branch shows it."""
    _git(clone, "switch", "--quiet", "--create", "change")
    _edit(clone, _FIELD, _BROKEN)
    _commit(clone)
    _edit(clone, _BROKEN, _BROKEN + "\n  // Something more.\n  string more = 9;")
    _commit(clone)
    assert _check(clone).returncode == 0
    assert _check(clone, PROTOS_AGAINST="main").returncode != 0
    done = _check(clone, PROTOS_AGAINST="origin/main")
    assert done.returncode == 1
    assert "fetch it first" in done.stderr


def test_shallow_clone_and_no_clone(clone: Path, tmp_path: Path) -> None:
    _edit(clone, _FIELD, _ADDED)
    _commit(clone)
    shallow = tmp_path / "shallow"
    _git(tmp_path, "clone", "--quiet", "--depth=1", clone.as_uri(), str(shallow))
    copy = tmp_path / "copy"
    shutil.copytree(clone, copy, ignore=shutil.ignore_patterns(".git"))
    for directory in (shallow, copy):
        done = _check(directory)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "only held against itself" in done.stdout
