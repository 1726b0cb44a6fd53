"""`tracker sync`: sends what runs have left in a directory. The same with and without the extra `cli`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tracker_client.cli.exits import FAILED, INTERRUPTED, OK, UNREACHABLE, USAGE
from tracker_client.cli.texts import plural, visible
from tracker_client.sender.sync import SyncProgress, SyncReport, sync_directory
from tracker_client.settings import BadSetting, load_settings

PATIENCE_SECONDS = 20.0
"""How long a server may take nothing before the command gives up, when no time-out is given."""
_NO_ANSWER = ("UNAVAILABLE", "no answer in time")
"""How messages begin when it is not the server that says no."""


def run_sync(
    directory: Path | None,
    *,
    server: str | None,
    api_key: str | None,
    timeout: float | None,
    progress: Callable[[SyncProgress], None] | None = None,
) -> int:
    """Sends what is there, prints what came of it, and returns the exit code.

    directory: None: TRACKER_DIR, else .tracker; that one may be missing, as then no run has left anything. timeout:
    seconds; None: until all is sent, or nothing has gone through for PATIENCE_SECONDS.
    """
    try:
        place = directory or load_settings().directory
        if not place.is_dir():
            if directory is None:
                _say(f"nothing to send: there is no directory {place}")
                return OK
            _complain(f"there is no directory {place}; name the one that runs write to, as TRACKER_DIR does")
            return USAGE
        watch = _Watch(progress, PATIENCE_SECONDS if timeout is None else float("inf"))
        report = sync_directory(place, server=server, api_key=api_key, timeout=timeout, progress=watch)
    except BadSetting as error:
        _complain(str(error))
        return USAGE
    except _Stalled as stalled:
        _complain(f"given up, as nothing goes through: {stalled.message}; what was not sent stays in {place}")
        return _code(stalled.message)
    except OSError as error:
        _complain(f"{error.filename or place}: {error.strerror or error}")
        return FAILED
    except KeyboardInterrupt:
        _complain(f"interrupted; what was not sent stays in {place}")
        return INTERRUPTED
    return _tell(place, report)


class _Stalled(Exception):  # named after what is wrong, as all are
    """Nothing goes through."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass
class _Watch:
    """Passes progress on, and ends the sending when there is none for too long."""

    show: Callable[[SyncProgress], None] | None
    patience: float
    _best: tuple[int, int, int] | None = None
    _moved_at: float = field(default_factory=time.monotonic)

    def __call__(self, at: SyncProgress) -> None:
        now = time.monotonic()
        place = (at.points, at.left_bytes, at.journals)
        if place != self._best or not at.message:
            self._best, self._moved_at = place, now
        elif now - self._moved_at > self.patience:
            raise _Stalled(at.message)
        if self.show is not None:
            self.show(at)


def _tell(place: Path, report: SyncReport) -> int:
    if report.sent or report.points or report.complete:
        _say(f"sent {plural(report.points, 'point')}; {plural(report.sent, 'journal')} done")
    if report.running:
        _say(f"{plural(report.running, 'journal')} of processes that still run; they send them themselves")
    for path in report.unreadable:
        _complain(f"{path}: not readable, so nobody knows whose it is")
    if report.refused:
        _complain(f"{plural(report.refused, 'write')} refused by the server; they are kept in {place / 'refused'}")
    if report.left:
        reason = f": {report.message}" if report.message else ""
        _complain(f"{plural(report.left, 'journal')} not sent{reason}; what was not sent stays in {place}")
        return _code(report.message)
    return FAILED if report.unreadable or report.refused else OK


def _code(message: str) -> int:
    return UNREACHABLE if message.startswith(_NO_ANSWER) else FAILED


def _say(line: str) -> None:
    print(visible(line))  # noqa: T201  # its output


def _complain(line: str) -> None:
    print(f"tracker: {visible(line)}", file=sys.stderr)  # noqa: T201  # its output
