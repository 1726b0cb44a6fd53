"""How it goes with a server: whether something may be sent just now, and what an error means for what was sent."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum
from typing import Final

from tracker_client.errors import (
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    TooLarge,
    TrackerError,
    Unauthenticated,
    Unimplemented,
)
from tracker_client.journal.status import Connection
from tracker_client.retry import FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS, Retry, decide

REFUSED_PAUSE_SECONDS: Final = 15.0
"""Pause after a server has refused us as such. What is sent waits in the journal, and nothing is lost."""
AWAITED_PAUSE_SECONDS: Final = 0.5
"""Longest pause while somebody waits for what is left, unless the server has asked for a longer one. With those that grow, a
server could be back for longer than anybody waits for it."""
DEFECT_TRIES: Final = 5
"""A write that a server answers so many times with an error of its own is given up: others shall not wait for it."""
_REFUSES_US: Final = (Unauthenticated, PermissionDenied, Unimplemented, NotFound)
_REFUSES_WRITE: Final = (InvalidRequest, TooLarge, FailedPrecondition)


class Verdict(Enum):
    """What is to be done with a write after an error."""

    AGAIN = "again"
    """Send it again, later."""
    GIVE_UP = "give up"
    """The server can never take it."""


class Link:
    """The state of the connection to one server."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float] = random.random) -> None:
        """clock: seconds that only grow; chance: a number from 0 up to 1."""
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._failed_at = 0.0
        self._open_at = 0.0
        self._asked_until = 0.0
        self.awaited = False
        """Whether somebody waits for what is left to arrive."""
        self.connection = Connection.UNKNOWN
        self.message = ""
        """What is wrong, for people; empty when nothing is."""

    @property
    def open(self) -> bool:
        """Whether something may be sent just now."""
        return self._clock() >= self._due

    @property
    def healthy(self) -> bool:
        """False after a failure, until something succeeds: then one write at a time is enough to find out."""
        return self._failures == 0

    @property
    def wait_seconds(self) -> float:
        """Until something may be sent."""
        return max(0.0, self._due - self._clock())

    def succeeded(self) -> None:
        """A call was answered well."""
        # A pause goes on: what succeeded now was sent before it, and the server has said how long it wants to be left alone.
        self._failures = 0
        self.connection = Connection.CONNECTED
        self.message = ""

    def failed(self, error: TrackerError, tries: int) -> Verdict:
        """A call was not. tries: how often that very write has been sent."""
        if isinstance(error, _REFUSES_WRITE) and not error.retryable:
            return Verdict.GIVE_UP
        if isinstance(error, _REFUSES_US):
            self._pause(REFUSED_PAUSE_SECONDS * (1 + 0.2 * self._chance()), Connection.REFUSED, error)
            return Verdict.AGAIN
        # One outage fails every call under way: it counts once.
        if self.open or not self._failures:
            self._failures += 1
        decided = decide(error, self._failures, chance=self._chance)
        if isinstance(decided, Retry):
            self._pause(decided.delay, Connection.UNREACHABLE, error)
            return Verdict.AGAIN
        if tries >= DEFECT_TRIES:
            return Verdict.GIVE_UP
        self._pause(min(FIRST_DELAY_SECONDS * 2.0**tries, MAX_DELAY_SECONDS), Connection.UNREACHABLE, error)
        return Verdict.AGAIN

    @property
    def _due(self) -> float:
        if not self.awaited or self.connection is Connection.REFUSED:
            return self._open_at
        return max(self._asked_until, min(self._open_at, self._failed_at + AWAITED_PAUSE_SECONDS))

    def _pause(self, seconds: float, connection: Connection, error: TrackerError) -> None:
        self._failures = max(1, self._failures)
        self._failed_at = self._clock()
        self._open_at = max(self._open_at, self._failed_at + seconds)
        self._asked_until = max(self._asked_until, self._failed_at + (error.retry_after or 0.0))
        self.connection = connection
        self.message = str(error)
