"""Which runs were asked to stop: polled, so that heartbeats are answered at once, the database down or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from tracker_server.errors import StoreUnavailable

POLL_SECONDS = 2.0


class PolledStopFlags:
    """heartbeats.StopFlags, as of the last time that the database answered."""

    def __init__(self, load: Callable[[], Awaitable[frozenset[str]]]) -> None:
        self._load = load
        self._runs: frozenset[str] = frozenset()

    def stop_requested(self, run_id: str) -> bool:
        """Whether somebody asked the run to stop."""
        return run_id in self._runs

    async def poll(self) -> None:
        """Keeps up to date until cancelled."""
        while True:
            with contextlib.suppress(StoreUnavailable):  # what was known still holds
                self._runs = await self._load()
            await asyncio.sleep(POLL_SECONDS)
