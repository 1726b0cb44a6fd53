"""What is to be purged, and what retention takes, and when: beside the flushes, a little at a time, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog

from tracker_server import limits
from tracker_server.errors import StoreUnavailable
from tracker_server.invalidation import Invalidator
from tracker_server.store.purging import Place, Removed
from tracker_server.store.retention import DAY_MS, Rule
from tracker_server.store.store import Store, now_ms

_REST = 1.0
"""Rest after each transaction, times what it took."""
_REST_WHEN_BUSY = 19.0
"""The same while a flush is under way: at most a twentieth of the time beside them."""
_LONGEST_REST_SECONDS = 5.0
_TAKEN_SECONDS = 0.05
"""Until a run is tried again whose chunks a compaction works on."""
_PAGE = 100
"""Runs or experiments looked up at a time."""
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Swept:
    """What was done."""

    runs: int = 0
    """Purged whole."""
    points: int = 0
    """Taken away with them, or by retention."""
    experiments: int = 0
    """Purged."""
    deleted: int = 0
    """Runs that retention deleted."""
    thinned: int = 0
    """Runs whose points retention dropped."""


@dataclass(slots=True)
class Purger:
    """Purges what has been deleted long enough, and applies retention, for some of the runs and experiments."""

    store: Store
    invalidator: Invalidator
    announce: Callable[[Mapping[int, int]], None]
    """Takes the revisions of partitions in which runs were deleted."""
    holds: Callable[[str], bool]
    """Whether a run or an experiment is this one's to see to."""
    busy: Callable[[], bool]
    """Whether a flush is under way."""
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="purge"))

    async def keep(self, interval_seconds: float) -> None:
        """Sweeps again and again, until cancelled."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                swept = await self.sweep()
            except StoreUnavailable:
                continue
            except Exception:  # noqa: BLE001  # background work: logged, and the flushes go on
                _log.exception("purging failed")
                continue
            if swept != Swept():
                _log.info("purged", runs=swept.runs, points=swept.points, experiments=swept.experiments)

    async def sweep(self) -> Swept:
        """Applies retention, and purges what is due. Raises StoreUnavailable."""
        swept = Swept()
        for rule in await self._call(self.store.retention.rules):
            await self._apply(rule, swept)
        before_ms = now_ms() - self.store.restore_ms
        await self._pages(partial(self.store.purging.due_runs, before_ms), partial(self._purge, before_ms, swept))
        await self._purge_experiments(before_ms, swept)
        return swept

    async def purge_run(self, run_id: str) -> Swept:
        """Purges a run at once that is deleted, or whose experiment is. Raises StoreUnavailable."""
        swept = Swept()
        await self._purge(limits.MAX_TIME_MS, swept, run_id)
        return swept

    async def purge_experiment(self, experiment_id: str) -> Swept:
        """Purges a deleted experiment with its runs at once. Raises StoreUnavailable."""
        swept, before_ms = Swept(), limits.MAX_TIME_MS
        due = partial(self.store.purging.due_runs, before_ms, experiment_id=experiment_id)
        await self._pages(due, partial(self._purge, before_ms, swept))
        swept.experiments += await self._call(self.store.purging.remove_experiment, experiment_id, before_ms)
        return swept

    async def close(self) -> None:
        """Waits for the transaction under way."""
        await asyncio.to_thread(self._thread.shutdown, wait=True)

    # ------------------------------------------------------------ purging

    async def _purge(self, before_ms: int, swept: Swept, run_id: str) -> None:
        if await self._call(self.store.purging.begin, run_id, before_ms):
            swept.points += await self._remove(run_id, Place())
            swept.runs += 1

    async def _purge_experiments(self, before_ms: int, swept: Swept) -> None:
        async def purge(experiment_id: str) -> None:
            swept.experiments += await self._call(self.store.purging.remove_experiment, experiment_id, before_ms)

        await self._pages(partial(self.store.purging.due_experiments, before_ms), purge)

    async def _remove(self, run_id: str, place: Place) -> int:
        """Takes rows away until none are left. Returns how many points went."""
        points = 0
        following: Place | None = place
        while following is not None:
            removed: Removed | None = await self._call(self.store.purging.remove, run_id, following)
            if removed is None:
                await asyncio.sleep(_TAKEN_SECONDS)
            else:
                points += removed.points
                following = removed.following
        return points

    # ------------------------------------------------------------ retention

    async def _apply(self, rule: Rule, swept: Swept) -> None:
        now = now_ms()
        if rule.delete_runs_after_days:
            await self._delete_ended(rule.experiment_id, now - rule.delete_runs_after_days * DAY_MS, now, swept)
        if rule.drop_points_after_days:
            before_ms = now - rule.drop_points_after_days * DAY_MS
            await self._pages(
                partial(self.store.retention.runs_to_thin, rule.experiment_id, before_ms),
                partial(self._thin, before_ms, now, swept),
            )

    async def _delete_ended(self, experiment_id: str, before_ms: int, now: int, swept: Swept) -> None:
        async def delete(run_id: str) -> None:
            outcome = await self._call(self.store.retention.delete, run_id, before_ms, now)
            if outcome is not None:
                swept.deleted += 1
                await self.invalidator.committed(outcome.scopes)
                self.announce(outcome.revisions)

        await self._pages(partial(self.store.retention.runs_to_delete, experiment_id, before_ms), delete)

    async def _thin(self, before_ms: int, now: int, swept: Swept, run_id: str) -> None:
        while await self._call(self.store.refresh_totals, run_id):
            pass
        place = await self._call(self.store.retention.begin_drop, run_id, before_ms, now)
        # If points come just now, the next sweep sees to it.
        if place is not None:
            swept.points += await self._remove(run_id, place)
            swept.thinned += 1

    # ------------------------------------------------------------ one after the other

    async def _pages(
        self, page: Callable[[str, int], Sequence[str]], work: Callable[[str], Coroutine[Any, Any, None]]
    ) -> None:
        """Does the work for every run or experiment of all pages that is this one's to see to."""
        after = ""
        while True:
            found = await self._call(page, after, _PAGE)
            for name in filter(self.holds, found):
                try:
                    await work(name)
                except StoreUnavailable:
                    raise
                except Exception:  # noqa: BLE001  # logged, and the others have their turn
                    _log.exception("cannot be purged", of=name)
            if len(found) < _PAGE:
                return
            after = found[-1]

    async def _call(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Runs something that blocks in the thread, and rests afterwards."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        result = await loop.run_in_executor(self._thread, partial(function, *arguments))
        rest = (loop.time() - begun) * (_REST_WHEN_BUSY if self.busy() else _REST)
        await asyncio.sleep(min(rest, _LONGEST_REST_SECONDS))
        return result
