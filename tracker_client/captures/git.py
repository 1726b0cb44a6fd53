"""The state of the code: commit, branch, whether it was changed since, and where it comes from."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tracker_client.captures.urls import without_credentials

TIMEOUT_SECONDS = 0.3
"""For git itself: over many files, or a network, it may take minutes."""
_COMMAND = (
    "git",
    # A monitor would be a process that outlives this one.
    *("-c", "core.fsmonitor=false"),
    *("status", "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=all"),
)
# Neither takes git's locks nor asks anything.
_VARIABLES = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
_SECTION = re.compile(r'^\s*\[\s*remote\s+"(.*)"\s*\]\s*$')
_URL = re.compile(r"^\s*url\s*=\s*(.*?)\s*$", re.IGNORECASE)


def capture_git(directories: Iterable[Path]) -> dict[str, str]:
    """Keys git.commit, git.branch, git.dirty (true or false: tracked files differ from the commit), git.remote.

    Of the first directory that is in a work tree; empty when none is. Without git, or when it refuses or takes too
    long, git.dirty is missing and the rest is read from the repository's files.
    """
    for directory in directories:
        repository = _repository(directory)
        if repository is not None:
            facts = _read_files(repository) | _ask_git(directory)
            return {key: value for key, value in facts.items() if value}
    return {}


def _repository(directory: Path) -> Path | None:
    """Its .git directory; of a linked work tree, the directory that belongs to that tree."""
    for parent in (directory, *directory.parents):
        found = parent / ".git"
        if (found / "HEAD").is_file():
            return found
        if found.is_file():
            _, _, target = found.read_text(errors="replace").partition("gitdir:")
            return parent / target.strip()
    return None


def _ask_git(directory: Path) -> dict[str, str]:
    try:
        done = subprocess.run(  # noqa: S603  # a fixed command
            _COMMAND,
            cwd=directory,
            env={**os.environ, **_VARIABLES},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
            check=True,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    headers = dict(line[2:].split(" ", 1) for line in done.stdout.splitlines() if line.startswith("# branch."))
    changed = any(not line.startswith("#") for line in done.stdout.splitlines())
    facts = {"git.dirty": "true" if changed else "false"}
    # A repository without commits has none to name.
    if re.fullmatch(r"[0-9a-f]{40,64}", headers.get("branch.oid", "")):
        facts["git.commit"] = headers["branch.oid"]
    return facts


def _read_files(repository: Path) -> dict[str, str]:
    common = repository
    if (repository / "commondir").is_file():
        common = repository / _text(repository / "commondir")
    head = _text(repository / "HEAD")
    reference = head.removeprefix("ref:").strip()
    facts = {"git.remote": _remote(_text(common / "config"))}
    if reference == head:
        return facts | {"git.commit": head}
    commit = _text(repository / reference) or _text(common / reference) or _packed(common, reference)
    return facts | {"git.commit": commit, "git.branch": reference.removeprefix("refs/heads/")}


def _packed(common: Path, reference: str) -> str:
    for line in _text(common / "packed-refs").splitlines():
        commit, _, name = line.partition(" ")
        if name == reference:
            return commit
    return ""


def _remote(config: str) -> str:
    """The URL of origin, or else of the first remote, without credentials."""
    urls: dict[str, str] = {}
    name = ""
    for line in config.splitlines():
        if section := _SECTION.match(line):
            name = section[1]
        elif line.lstrip().startswith("["):
            name = ""
        elif name and (url := _URL.match(line)):
            urls.setdefault(name, url[1].strip('"'))
    return without_credentials(urls.get("origin") or next(iter(urls.values()), ""))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
