"""`tracker sync`: sends what runs have left in a directory. The same with and without the extra `cli`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tracker_client.channel import endpoint
from tracker_client.cli.exits import FAILED, INTERRUPTED, OK, USAGE, code_of, explain
from tracker_client.cli.texts import plural
from tracker_client.errors import BadSetting, TrackerError

DEFAULT_DIRECTORY = ".tracker"


class SyncProgress(Protocol):
    """How far it is."""

    points: int
    """Sent so far."""
    total_points: int
    """To be sent in all, as far as is known."""


class SyncReport(Protocol):
    """What was sent."""

    runs: int
    points: int
    unsent_points: int
    """Still in the directory."""
    problems: Sequence[str]
    """What could not be read or was refused, each with its file."""


def run_sync(
    directory: Path | None,
    *,
    server: str | None,
    api_key: str | None,
    timeout: float | None,
    progress: Callable[[SyncProgress], None] | None = None,
) -> int:
    """Sends what is there, prints what came of it, and returns the exit code.

    directory: None: TRACKER_DIR, else .tracker; that one may be missing, as then no run has left anything.
    """
    place = directory or Path(os.environ.get("TRACKER_DIR") or DEFAULT_DIRECTORY)
    if not place.is_dir():
        if directory is None:
            _say(f"nothing to send: there is no directory {place}")
            return OK
        _complain(f"there is no directory {place}; name the one that runs write to, as TRACKER_DIR does")
        return USAGE
    try:
        report = _sync_directory()(place, server=server, api_key=api_key, timeout=timeout, progress=progress)
    except (TrackerError, BadSetting) as error:
        _complain(explain(error, _address(server)))
        return code_of(error)
    except KeyboardInterrupt:
        _complain("interrupted; what was not sent is still there")
        return INTERRUPTED
    _say(f"sent {plural(report.points, 'point')} of {plural(report.runs, 'run')} from {place}")
    for problem in report.problems:
        _complain(problem)
    if report.unsent_points:
        _complain(f"{plural(report.unsent_points, 'point')} not sent; they stay in {place}, send them later")
    return FAILED if report.problems or report.unsent_points else OK


def _sync_directory() -> Callable[..., SyncReport]:
    # Only when it is needed: everything else works without.
    module: Any = importlib.import_module("tracker_client.sender.sync")
    function: Callable[..., SyncReport] = module.sync_directory
    return function


def _address(server: str | None) -> str:
    try:
        return endpoint(server).target
    except BadSetting:
        return str(server)


def _say(line: str) -> None:
    print(line)  # noqa: T201  # its output


def _complain(line: str) -> None:
    print(f"tracker: {line}", file=sys.stderr)  # noqa: T201  # its output
