"""Which runs were asked to stop: polled, so that heartbeats are answered at once, the database down or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from tracker_server.errors import StoreUnavailable

POLL_SECONDS = 2.0


class PolledStopFlags:
    """heartbeats.StopFlags, as of the last time that the database answered."""

    def __init__(self, load: Callable[[], Awaitable[Mapping[str, int]]]) -> None:
        self._load = load
        self._newest: Mapping[str, int] = {}

    def stop_requested(self, run_id: str, attempt: int) -> bool:
        """Whether somebody asked this attempt of the run to stop.

        One that the database has not heard of yet, behind a backlog perhaps, began after the stop was asked for.
        """
        return attempt <= self._newest.get(run_id, -1)

    async def poll(self) -> None:
        """Keeps up to date until cancelled."""
        while True:
            with contextlib.suppress(StoreUnavailable):  # what was known still holds
                self._newest = await self._load()
            await asyncio.sleep(POLL_SECONDS)
