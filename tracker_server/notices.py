"""That runs have changed: told at once, then at most ten times a second; and within one process, to itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tracker_server.ports import ChangeNotices, Revisions

INTERVAL_SECONDS: Final = 0.1
"""Between two notices."""


class CoalescedNotices:
    """ports.ChangeNotices that passes on what was said meanwhile as one notice. On one event loop."""

    def __init__(self, notices: ChangeNotices, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._notices = notices
        self._interval = interval_seconds
        self._owed: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def send(self, revisions: Revisions) -> None:
        """See ports.ChangeNotices."""
        for partition, revision in revisions.items():
            self._owed[partition] = max(revision, self._owed.get(partition, 0))
        if self._owed and self._timer is None:
            self._pass_on()

    def close(self) -> None:
        """Passes on what is owed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._owed:
            self._notices.send(self._owed)

    def _pass_on(self) -> None:
        self._timer = None
        if self._owed:
            owed, self._owed = self._owed, {}
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._pass_on)
            self._notices.send(owed)


class MemoryChanges:
    """Both sides in one process."""

    def __init__(self) -> None:
        self._on_change: Callable[[Revisions], None] | None = None

    async def start(self, on_change: Callable[[Revisions], None]) -> None:
        """See ports.ChangeFeed."""
        self._on_change = on_change

    async def close(self) -> None:
        """See ports.ChangeFeed."""
        self._on_change = None

    def send(self, revisions: Revisions) -> None:
        """See ports.ChangeNotices."""
        if self._on_change is not None:
            self._on_change(revisions)
