"""Which runs' chunks are to be merged and when: beside the flushes, a little at a time, in a thread of its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from tracker_server.errors import StoreUnavailable
from tracker_server.model.writes import CompleteRun, Write
from tracker_server.store.compaction import CROWD, NOTHING_COMPACTED, SEVERAL
from tracker_server.store.store import Store

_ENDED_SECONDS = 2.0
"""Without a flush of a run that has ended: then nothing more is expected."""
_QUIET_SECONDS = 300.0
"""Without a flush of a run that has not: then what there is is merged, and the run forgotten until its next flush."""
_LOOK_SECONDS = 0.5
"""Between two looks for runs that are due."""
_REST = 1.0
"""Rest after each transaction, times what it took."""
_REST_WHEN_BUSY = 19.0
"""The same while a flush is under way: at most a twentieth of the time beside them."""
_LONGEST_REST_SECONDS = 5.0
_UNAVAILABLE_SECONDS = 5.0
"""Until a database that is out of reach is asked again."""
_PAGE = 100
"""Runs looked up at a time."""
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Activity:
    """What was flushed of a run since its chunks were last merged."""

    flushes: int = 0
    """Each adds at most one chunk to the tail of a series and attempt."""
    last: float = 0.0
    """When, by the loop's clock."""
    ended: bool = False


class Compactor:
    """Merges the small chunks of the runs of this consumer's partitions."""

    def __init__(self, store: Store, *, holds: Callable[[str], bool], busy: Callable[[], bool]) -> None:
        """holds: whether a run belongs to this consumer; busy: whether a flush is under way."""
        self._store = store
        self._holds = holds
        self._busy = busy
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compact")
        self._loop = asyncio.get_running_loop()
        self._runs: dict[str, _Activity] = {}
        self._looked_up_to: str | None = ""
        """Runs up to this id have been looked up; None: all of them."""
        self.parts = 0
        """Small chunks merged so far."""

    def flushed(self, writes: Iterable[Write]) -> None:
        """Notes what one flush had."""
        now = self._loop.time()
        ended = {write.scope_id: isinstance(write.body, CompleteRun) for write in writes if write.points}
        ended |= {write.scope_id: True for write in writes if isinstance(write.body, CompleteRun)}
        for run_id, ends in ended.items():
            activity = self._runs.setdefault(run_id, _Activity())
            activity.flushes += 1
            activity.last = now
            activity.ended |= ends

    def look_everywhere(self) -> None:
        """Looks through all stored runs: some may have been left by a consumer that died, or had compaction off."""
        self._looked_up_to = ""

    async def keep(self) -> None:
        """Merges what is due, until cancelled."""
        while True:
            try:
                await self._look_up()
                for run_id in self._due():
                    await self._compact(run_id)
                await asyncio.sleep(0 if self._looked_up_to is not None else _LOOK_SECONDS)
            except StoreUnavailable:
                await asyncio.sleep(_UNAVAILABLE_SECONDS)
            except Exception:  # noqa: BLE001  # background work: logged, and the flushes go on
                _log.exception("looking for chunks to merge failed")
                await asyncio.sleep(_UNAVAILABLE_SECONDS)

    async def close(self) -> None:
        """Waits for the transaction under way."""
        await asyncio.to_thread(self._thread.shutdown, wait=True)

    def _due(self) -> list[str]:
        now = self._loop.time()
        return [
            run_id
            for run_id, activity in self._runs.items()
            if activity.flushes >= CROWD
            or now - activity.last >= (_ENDED_SECONDS if activity.ended else _QUIET_SECONDS)
        ]

    async def _look_up(self) -> None:
        """A page of the stored runs."""
        if self._looked_up_to is None:
            return
        after = self._looked_up_to
        page = await self._call(partial(self._store.runs_with_small_chunks, after, _PAGE))
        for run_id, ended in page:
            if self._holds(run_id):
                # Due at once; those that were flushed lately are known anyway.
                self._runs.setdefault(run_id, _Activity(0, -math.inf, ended))
        if self._looked_up_to == after:
            self._looked_up_to = page[-1][0] if len(page) == _PAGE else None

    async def _compact(self, run_id: str) -> None:
        activity = self._runs.pop(run_id)
        if not self._holds(run_id):
            return
        quiet = self._loop.time() - activity.last
        finish = activity.ended and quiet >= _ENDED_SECONDS
        many = SEVERAL if quiet >= _QUIET_SECONDS else CROWD
        if not finish and quiet < _QUIET_SECONDS:
            # Still of interest; the flushes meanwhile are counted anew.
            self._runs[run_id] = _Activity(0, activity.last, activity.ended)
        done = NOTHING_COMPACTED
        try:
            while True:
                begun = self._loop.time()
                merge = partial(self._store.compact, run_id, finish=finish, many=many, pending=done.pending)
                done = await self._call(merge)
                if not done.parts:
                    return
                self.parts += done.parts
                rest = (self._loop.time() - begun) * (_REST_WHEN_BUSY if self._busy() else _REST)
                await asyncio.sleep(min(rest, _LONGEST_REST_SECONDS))
        except StoreUnavailable:
            self._runs.setdefault(run_id, activity)
            raise
        except Exception:  # noqa: BLE001  # background work: logged, and the run is left as it is
            _log.exception("chunks could not be merged", run=run_id)

    async def _call(self, function: Callable[[], _T]) -> _T:
        return await self._loop.run_in_executor(self._thread, function)
