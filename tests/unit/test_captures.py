"""tracker_client.captures: what is recorded is true, harmless to record, cheap, and never an error."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tracker_client.captures import METADATA_CAPTURES, capture, this_process
from tracker_client.captures import git as git_module
from tracker_client.captures.git import capture_git
from tracker_client.captures.packages import MAX_LENGTH, capture_packages
from tracker_client.captures.process import ProcessFacts, capture_process
from tracker_client.captures.urls import without_credentials

Git = Callable[..., str]
_NOBODY = {
    **{f"GIT_{who}_{what}": "nobody@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A work tree with one commit on the branch `topic/new`."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "train.py").write_text("print(1)\n")
    _git(tree, "init", "-q", "-b", "topic/new")
    _git(tree, "add", ".")
    _git(tree, "commit", "-q", "-m", "first")
    _git(tree, "remote", "add", "upstream", "https://example.org/theirs.git")
    _git(tree, "remote", "add", "origin", "https://me:secret@example.org/mine.git")
    return tree


def _git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=directory, env={**os.environ, **_NOBODY}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_git_says_what_was_run(repository: Path) -> None:
    below = repository / "deep" / "er"
    below.mkdir(parents=True)
    assert capture_git([below]) == {
        "git.commit": _git(repository, "rev-parse", "HEAD"),
        "git.branch": "topic/new",
        "git.dirty": "false",
        "git.remote": "https://example.org/mine.git",
    }


def test_git_is_dirty_when_a_tracked_file_differs(repository: Path) -> None:
    (repository / "notes.txt").write_text("not tracked")
    assert capture_git([repository])["git.dirty"] == "false"
    (repository / "train.py").write_text("print(2)\n")
    assert capture_git([repository])["git.dirty"] == "true"


def test_git_takes_the_first_directory_in_a_work_tree(repository: Path, tmp_path: Path) -> None:
    assert capture_git([tmp_path, tmp_path / "gone", repository])["git.branch"] == "topic/new"
    assert capture_git([tmp_path]) == {}


def test_git_in_a_linked_work_tree_and_detached(repository: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    _git(repository, "worktree", "add", "-q", "--detach", str(linked))
    facts = capture_git([linked])
    assert facts["git.commit"] == _git(repository, "rev-parse", "HEAD")
    assert facts["git.remote"] == "https://example.org/mine.git"
    assert "git.branch" not in facts


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_git_without_the_program(repository: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    """As in training images; the dirty flag alone needs it."""
    if packed:
        _git(repository, "pack-refs", "--all")
    commit = _git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", "")
    assert capture_git([repository]) == {
        "git.commit": commit,
        "git.branch": "topic/new",
        "git.remote": "https://example.org/mine.git",
    }


def test_git_that_hangs_is_not_waited_for(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(git_module, "TIMEOUT_SECONDS", 0.05)
    began = time.monotonic()
    assert "git.commit" in capture_git([repository])
    assert time.monotonic() - began < 5


def test_git_before_the_first_commit(tmp_path: Path) -> None:
    _git(tmp_path, "init", "-q", "-b", "main")
    assert capture_git([tmp_path]) == {"git.branch": "main", "git.dirty": "false"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:token@example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://token@example.org:8443/a?private_token=x#y", "https://example.org:8443/a"),
        ("ssh://git:secret@example.org/a", "ssh://git@example.org/a"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        ("/srv/git/a.git", "/srv/git/a.git"),
    ],
)
def test_no_credentials_in_urls(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def _facts(*command: str) -> ProcessFacts:
    return replace(this_process(), command=command, variables={})


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["train.py", "--api-key", "abc", "--lr", "0.1"], "train.py --api-key '***' --lr 0.1"),
        (["train.py", "--hf_token=abc"], "train.py '--hf_token=***'"),
        (["train.py", "--db", "postgresql://me:pw@db/x"], "train.py --db postgresql://db/x"),
        (["train.py", "--db=postgresql://me:pw@db/x"], "train.py --db=postgresql://db/x"),
        (["train.py", "--max-tokens=4096", "--num-keys", "3"], "train.py --max-tokens=4096 --num-keys 3"),
        (["train.py", "--password", "--lr=1"], "train.py --password --lr=1"),
        (["python", "-c", "print('a b')"], """python -c 'print('"'"'a b'"'"')'"""),
    ],
)
def test_secrets_of_the_command_line_are_hidden(command: list[str], shown: str) -> None:
    assert capture_process(_facts(*command))["process.command"] == shown


def test_only_launcher_variables_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-record")
    found = capture(["process"])
    assert (found["launcher.SLURM_JOB_ID"], found["launcher.RANK"]) == ("4711", "3")
    assert "do-not-record" not in json.dumps(found)


def test_process_of_a_real_script(tmp_path: Path) -> None:
    script = tmp_path / "my train.py"
    script.write_text(
        "import json\nfrom tracker_client.captures import capture, this_process\n"
        "print(json.dumps([capture(['process', 'host']), str(this_process().source_directories[0])]))\n"
    )
    command = [sys.executable, "-W", "error", "my train.py", "--lr", "0.1"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    found, source_directory = json.loads(done.stdout)
    assert found["process.command"].endswith(" 'my train.py' --lr 0.1")
    assert found["process.working_directory"] == source_directory == str(tmp_path)
    assert found["python.version"] == ".".join(map(str, sys.version_info[:3]))
    assert int(found["host.cpu_count"]) == os.cpu_count()
    assert int(found["host.memory_bytes"]) > 2**20


def test_packages_are_those_that_python_would_import() -> None:
    found = json.loads(capture_packages(sys.path)["packages"])
    for name in ("grpcio", "protobuf", "pytest", "typing-extensions", "experiment-tracker"):
        assert found[name] == importlib.metadata.version(name)
    installed = {_normalized(one.name) for one in importlib.metadata.distributions()}
    assert set(found) == installed


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_packages_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    for number in range(2_000):
        (tmp_path / f"a_rather_long_name_of_a_package_{number:04}-1.{number}.dist-info").mkdir()
    found = capture_packages([str(tmp_path), str(tmp_path / "missing")])
    kept = json.loads(found["packages"])
    assert len(found["packages"]) <= MAX_LENGTH
    assert 1_000 < len(kept) == 2_000 - int(found["packages.left_out"])
    assert kept["a-rather-long-name-of-a-package-0007"] == "1.7"


def test_all_of_it_is_quick_and_can_be_sent() -> None:
    began = os.times()
    found = capture(list(METADATA_CAPTURES))
    ended = os.times()
    # In time of the processor, its own and git's, which is the same on a machine that others use too. What it may wait
    # for, git, is another test's.
    assert sum(ended[:4]) - sum(began[:4]) < 0.5
    assert {"host.name", "python.version", "packages"} <= set(found)
    assert all(value and len(value) <= 65_536 and len(key) <= 256 for key, value in found.items())


def test_each_can_be_switched_off() -> None:
    assert capture([]) == {}
    for name, prefixes in {"host": ("host.",), "process": ("process.", "python.", "launcher.")}.items():
        assert all(key.startswith(prefixes) for key in capture([name]))
    with pytest.raises(ValueError, match="no capture 'gti'; there are git, host, process, packages"):
        capture(["gti"])


def test_odd_texts_are_made_fit_to_send() -> None:
    facts = _facts("train.py", "\udcff", "x" * 70_000)
    found = capture(["process"], facts)["process.command"]
    found.encode()
    assert len(found) == 65_536
    assert found.endswith("(cut)")


def test_a_capture_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise OSError("no such thing here")

    monkeypatch.setattr("socket.gethostname", broken)
    found = capture(["host", "packages"])
    assert "packages" in found
    assert "host.name" not in found


def test_a_deleted_working_directory_is_no_error(tmp_path: Path) -> None:
    program = (
        "import os, sys; os.rmdir(os.getcwd());"
        "from tracker_client.captures import METADATA_CAPTURES, SystemSampler, capture;"
        "print('process.pid' in capture(list(METADATA_CAPTURES)), bool(SystemSampler().sample()))"
    )
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=gone,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True True\n"


def test_imports_only_the_standard_library() -> None:
    program = (
        "import json, sys; import tracker_client; before = set(sys.modules); import tracker_client.captures;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    imported = [name for name in json.loads(done.stdout) if not name.startswith("tracker_client")]
    assert [name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names] == []
