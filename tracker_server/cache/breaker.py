"""A circuit breaker: after an error, nobody tries for a while, and then one probe does. Pure: no I/O, clock injected."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

FIRST_OPEN_SECONDS: Final = 0.5
LONGEST_OPEN_SECONDS: Final = 10.0
_JITTER: Final = 0.2
"""Fraction of the time by which it varies either way, so that processes do not probe in step."""


class BreakerState(Enum):
    """CLOSED: calls go through. OPEN: none does. HALF_OPEN: one probe is under way, and nothing else."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Opens at the first failure, for first_seconds; each failed probe doubles that, up to longest_seconds."""

    __slots__ = ("_clock", "_first", "_longest", "_open_until", "_random", "_seconds", "_state")

    def __init__(
        self,
        *,
        first_seconds: float = FIRST_OPEN_SECONDS,
        longest_seconds: float = LONGEST_OPEN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._first = first_seconds
        self._longest = longest_seconds
        self._clock = clock
        self._random = random
        self._state = BreakerState.CLOSED
        self._seconds = 0.0
        self._open_until = 0.0

    @property
    def state(self) -> BreakerState:
        """The state that the last call left."""
        return self._state

    @property
    def closed(self) -> bool:
        """Whether calls go through."""
        return self._state is BreakerState.CLOSED

    def probe_due(self) -> bool:
        """True once per open time that has passed: the caller is the probe, and must report success or failure."""
        if self._state is not BreakerState.OPEN or self._clock() < self._open_until:
            return False
        self._state = BreakerState.HALF_OPEN
        return True

    def success(self) -> None:
        """A call worked: closed."""
        self._state = BreakerState.CLOSED
        self._seconds = 0.0

    def failure(self) -> None:
        """A call failed. While already open it says nothing new: that call had begun before."""
        if self._state is BreakerState.OPEN:
            return
        self._seconds = min(self._longest, self._seconds * 2 if self._seconds else self._first)
        self._open_until = self._clock() + self._seconds * (1 + _JITTER * (2 * self._random() - 1))
        self._state = BreakerState.OPEN
