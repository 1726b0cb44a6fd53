"""What a training script is told when something is wrong: once each, on the log `tracker_client`, never as an exception."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import Final

_log: Final = logging.getLogger("tracker_client")
_MOST: Final = 1_000
"""Different things that are remembered as said."""


class OnError(Enum):
    """What becomes of a mistake in how the client is used."""

    WARN = "warn"
    """It is reported once, and training goes on."""
    RAISE = "raise"
    """It is raised."""


class Reporter:
    """Says each thing once."""

    def __init__(self, on_error: OnError) -> None:
        self._on_error = on_error
        # No lock: a signal handler that warns, or the child of a fork, would find it taken for ever.
        self._said: dict[str, object] = {}

    @property
    def raises(self) -> bool:
        """Whether mistakes are raised."""
        return self._on_error is OnError.RAISE

    def warn(self, message: str, key: str | None = None) -> None:
        """Says it, unless the same (or something of the same key) has been said."""
        mine = object()
        if len(self._said) >= _MOST or self._said.setdefault(key or message, mine) is not mine:
            return
        _log.warning("tracker: %s", message)

    def mistake(self, error: Callable[[], Exception], key: str | None = None) -> None:
        """A mistake in how the client is used. Raises it for those who want that."""
        made = error()
        if self._on_error is OnError.RAISE:
            raise made
        self.warn(str(made), key)

    def mistake_is(self, error: Exception, key: str | None = None) -> None:
        """As mistake, with an exception that is there already."""
        self.mistake(lambda: error, key)
