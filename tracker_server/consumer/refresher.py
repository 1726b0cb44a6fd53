"""Makes totals anew that a cut has made stale, beside the flushes: one short piece of work at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable

import structlog

from tracker_server.errors import StoreUnavailable

_WAIT_SECONDS = 1.0
"""Before the next try while the database is out of reach."""
_log = structlog.get_logger(__name__)


class Refresher:
    """Runs whose stale series are to be refreshed, each once, however often it is named. All calls on the event loop.

    What is left when it closes stays marked: reads count the points themselves, and who takes over goes on.
    """

    def __init__(self, refresh: Callable[[str], Awaitable[bool]]) -> None:
        """refresh: works on some series of a run, and says whether more are stale."""
        self._refresh = refresh
        self._waiting: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def add(self, run_ids: Iterable[str]) -> None:
        """Runs with stale series."""
        self._waiting |= dict.fromkeys(run_ids)
        if self._waiting and self._task is None and not self._closing.is_set():
            self._task = asyncio.create_task(self._work(), name="refresh totals")

    async def close(self) -> None:
        """Waits for what is under way, and begins nothing more."""
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        while self._waiting and not self._closing.is_set():
            run_id = next(iter(self._waiting))
            del self._waiting[run_id]
            try:
                more = await self._refresh(run_id)
            except StoreUnavailable:
                more = True
                await self._pause()
            except Exception:  # noqa: BLE001  # background work: logged, and the series stay marked
                more = False
                _log.exception("totals could not be refreshed", run=run_id)
            if more:
                # Behind the others.
                self._waiting[run_id] = None
        self._task = None

    async def _pause(self) -> None:
        seconds = _WAIT_SECONDS * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return
