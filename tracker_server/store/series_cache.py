"""Rows of `series` as this process last wrote them, so that a flush need not read them again.

Whether they still are what the database has is not known before they are written: each row has a number that every
write of it raises (`chunk_count`), and an update names the number that it expects. If a row has another one, somebody
else has written it, the transaction is rolled back, and the flush reads everything anew.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tracker_server.store.series_book import SeriesState

MOST: Final = 50_000
"""Rows kept at most: some 50 MB. Of the run used least lately they are forgotten first."""


class RowChanged(Exception):
    """A row is not what this process last wrote."""


class SeriesCache:
    """Rows by run and metric. One flush at a time may use it; another one meanwhile gets an empty one."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, dict[str, SeriesState]] = OrderedDict()
        self._count = 0
        self._taken: dict[str, dict[str, SeriesState]] = {}
        self._forgotten: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def used(self) -> Iterator[SeriesCache]:
        """For one transaction: what was taken is kept if it ends well, and forgotten if it does not."""
        if not self._lock.acquire(blocking=False):
            yield SeriesCache()
            return
        try:
            yield self
            for run_id, states in self._taken.items():
                self._put(run_id, states)
        finally:
            self._taken = {}
            self._lock.release()

    def take(self, run_id: str) -> dict[str, SeriesState]:
        """The rows of a run; the caller may change them and add to them."""
        if run_id not in self._taken:
            states = self._runs.pop(run_id, {})
            self._count -= len(states)
            if run_id in self._forgotten:
                self._forgotten.discard(run_id)
                states = {}
            self._taken[run_id] = states
        return self._taken[run_id]

    def forget(self, run_id: str) -> None:
        """The rows of a run were written by somebody else in this process: the next flush reads them. From any thread.

        It saves that flush a try in vain: without it, the flush would notice.
        """
        if run_id in self._runs or run_id in self._taken:
            self._forgotten.add(run_id)

    def _put(self, run_id: str, states: dict[str, SeriesState]) -> None:
        for state in states.values():
            state.written()
        self._runs[run_id] = states
        self._count += len(states)
        while self._count > MOST:
            evicted, forgotten = self._runs.popitem(last=False)
            self._forgotten.discard(evicted)
            self._count -= len(forgotten)
