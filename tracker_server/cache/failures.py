"""Counts what goes wrong with the cache, by kind, and logs it now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

_LOG_SECONDS: Final = 10.0
_KINDS: Final[tuple[tuple[str, tuple[type[BaseException], ...]], ...]] = (
    ("timeout", (TimeoutError, RedisTimeoutError)),
    ("loading", (BusyLoadingError,)),
    ("authentication", (AuthenticationError,)),
    ("connection", (RedisConnectionError, OSError)),
    ("out_of_memory", (OutOfMemoryError,)),
    ("read_only", (ReadOnlyError,)),
    ("no_permission", (NoPermissionError,)),
)
_log = structlog.get_logger(__name__)


class Failures:
    """Failures of one cache since the process began."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.kinds: Counter[str] = Counter()
        """Failed round trips and refused commands, by kind."""
        self.skipped = 0
        """Calls answered without asking, since the breaker was open."""
        self._clock = clock
        self._log_after = float("-inf")
        self._down = False

    def count(self, error: BaseException) -> None:
        """Counts a failure; logs the first, and then one in ten seconds."""
        kind = _kind(error)
        self.kinds[kind] += 1
        now = self._clock()
        if now >= self._log_after:
            self._log_after = now + _LOG_SECONDS
            self._down = True
            _log.warning(
                "cache failure; reads go to the database",
                kind=kind,
                error=str(error) or type(error).__name__,
                failures=dict(self.kinds),
                skipped=self.skipped,
            )

    def recovered(self) -> None:
        """Says once that what was logged as failing works again."""
        if self._down:
            self._down = False
            _log.info("cache is back", skipped=self.skipped)


def _kind(error: BaseException) -> str:
    for kind, types in _KINDS:
        if isinstance(error, types):
            return kind
    if isinstance(error, ResponseError):
        return "wrong_type" if str(error).startswith("WRONGTYPE") else "refused"
    return type(error).__name__
