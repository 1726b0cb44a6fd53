"""Exit codes of `tracker`, and the messages that go with them."""

from __future__ import annotations

from tracker_client.errors import TrackerError, Unauthenticated, Unimplemented
from tracker_client.settings import BadSetting

OK = 0
FAILED = 1
"""The server said no, or something else failed."""
USAGE = 2
"""The command line or a setting is wrong."""
UNREACHABLE = 3
"""No server answers."""
INTERRUPTED = 130
"""Ctrl-C, as shells have it."""
PIPE_CLOSED = 141
"""Whoever read the output went away, as shells have it."""

_ADVICE = {
    "RUN_NOT_FOUND": "`tracker runs` lists the runs",
    "EXPERIMENT_NOT_FOUND": "`tracker experiments` lists the experiments",
    "DATABASE_UNAVAILABLE": "the server is there, its database is not; try again later",
}


def code_of(error: TrackerError | BadSetting) -> int:
    """The exit code for an error of the client."""
    if isinstance(error, BadSetting):
        return USAGE
    return UNREACHABLE if _is_unreachable(error) else FAILED


def explain(error: TrackerError | BadSetting, server: str) -> str:
    """What is wrong and what to do, in one or a few lines. server: the address that was tried."""
    if isinstance(error, BadSetting):
        return str(error)
    if _is_unreachable(error):
        return (
            f"no tracker answers at {server} ({_short(error.message)}); start one, "
            "or name another with --server or TRACKER_SERVER"
        )
    lines = [error.message, *(f"  {name}: {what}" for name, what in error.violations)]
    if isinstance(error, Unauthenticated):
        lines[0] += "; give a key with --api-key or TRACKER_API_KEY"
    elif isinstance(error, Unimplemented):
        lines[0] += "; the server is older than this command"
    elif error.reason in _ADVICE:
        lines[0] += f"; {_ADVICE[error.reason]}"
    return "\n".join(lines)


def _is_unreachable(error: TrackerError) -> bool:
    # With a reason it is the server itself that says so.
    return not error.reason and error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= 160 else f"{line[:160]}…"
