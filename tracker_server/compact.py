"""Compaction by hand: what the consumer does beside its flushes, for one run or for all, as fast as it goes."""

from __future__ import annotations

from tracker_server.model.status import Status
from tracker_server.store.compaction import NOTHING_COMPACTED, SEVERAL, Compacted
from tracker_server.store.store import Store

_PAGE = 100
"""Runs looked up at a time."""


def compact_run(store: Store, run_id: str) -> Compacted:
    """Merges the small chunks of one run; of one that has not ended, the last of each series stays small.

    Raises RunNotFound or StoreUnavailable.
    """
    return _compact(store, run_id, ended=store.read_run(run_id, "", 1).run.status != Status.RUNNING)


def compact_all(store: Store) -> Compacted:
    """The same for every run. Raises StoreUnavailable."""
    total = NOTHING_COMPACTED
    after = ""
    while page := store.runs_with_small_chunks(after, _PAGE):
        for run_id, ended in page:
            total = total.plus(_compact(store, run_id, ended=ended))
        after = page[-1][0]
    return total


def _compact(store: Store, run_id: str, *, ended: bool) -> Compacted:
    total = done = NOTHING_COMPACTED
    while (done := store.compact(run_id, finish=ended, many=SEVERAL, pending=done.pending)).parts:
        total = total.plus(done)
    return total
