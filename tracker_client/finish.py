"""The wait at the end of a run: until all has arrived, or there is no hope of it soon."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Final

from tracker_client.exits import describe
from tracker_client.journal.status import Connection, Status
from tracker_client.run_journal import RunJournal
from tracker_client.settings import Mode

DEFAULT_FINISH_SECONDS: Final = 30.0
HOPELESS_SECONDS: Final = 5.0
"""With the server out of reach, and nothing arriving, finish waits no longer than this."""
_POLL_SECONDS: Final = 0.002
_LONGEST_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it."""

    sent: bool
    """Whether everything has arrived."""
    message: str = ""
    """What is left, why, and what to do; empty when there is nothing to say."""
    write_token: str = ""
    """Of the last write that has arrived; when everything has, a read with it waits for all of it."""


def wait_until_sent(journal: RunJournal, timeout: float) -> Outcome:
    """Closes a journal, waits until the server has all of it, and lets go of it.

    timeout: seconds; it is kept, whatever hangs.
    """
    writer = journal.writer
    try:
        last = journal.close()
        if writer is None:
            return Outcome(sent=journal.settings.mode is Mode.DISABLED)
        status = _wait(journal, last, timeout) if journal.settings.mode is Mode.ONLINE else journal.status()
        dropped = writer.dropped
        sent = status.closed
    except Exception as error:  # noqa: BLE001 - the end of training is no time to raise
        return Outcome(False, f"the journal of run {journal.run_id} could not be closed: {describe(error)}")
    finally:
        _release(journal)
    parts = []
    if dropped:
        parts.append(f"{dropped} points of run {journal.run_id} found no room and are lost")
    if status.refused:
        parts.append(
            f"the server refused {status.refused} writes of run {journal.run_id} for good; they and the reasons are in "
            f"{journal.directory}/refused"
        )
    if not sent and journal.settings.mode is Mode.ONLINE:
        parts.append(_left(journal, status, max(0, writer.points - status.points)))
    return Outcome(sent, "; ".join(parts), status.write_token)


def _release(journal: RunJournal) -> None:
    # What cannot be synced is safe from all but a power cut, and what cannot be closed ends with the process.
    with contextlib.suppress(OSError):
        journal.release()


def _wait(journal: RunJournal, last: int, timeout: float) -> Status:
    began = moved = time.monotonic()
    if timeout > 0 and journal.writer is not None:
        # The sender then makes no long pauses between its tries. Without it, it only takes longer.
        with contextlib.suppress(OSError):
            journal.writer.folder.awaited_path.touch()
    seen = journal.status()
    pause = _POLL_SECONDS
    while not seen.closed:
        now = time.monotonic()
        hopeless = seen.connection in (Connection.UNREACHABLE, Connection.REFUSED) and now - moved > HOPELESS_SECONDS
        if now - began >= timeout or hopeless:
            break
        time.sleep(min(pause, max(0.0, began + timeout - now)))
        pause = min(2 * pause, _LONGEST_POLL_SECONDS)
        status = journal.status()
        if status.acknowledged != seen.acknowledged or status.connection is Connection.CONNECTED:
            moved = time.monotonic()
        if status.acknowledged >= last:
            # Only the close is under way: it will not be long.
            pause = _POLL_SECONDS
        seen = status
    return seen


def _left(journal: RunJournal, status: Status, points: int) -> str:
    why = {
        Connection.UNKNOWN: "no sender has come to it yet",
        Connection.UNREACHABLE: f"the server {journal.settings.server} is out of reach",
        Connection.REFUSED: f"the server {journal.settings.server} refuses them",
        Connection.CONNECTED: "there was not enough time",
    }[status.connection]
    said = f": {status.message}" if status.message else ""
    return (
        f"{points} points of run {journal.run_id} have not arrived yet ({why}{said}). They are safe in "
        f"{journal.directory}; the next run in this directory sends them, or: tracker sync {journal.directory}"
    )
