"""Purging by hand: what a consumer does beside its flushes, for all that is due, or at once for one run or experiment."""

from __future__ import annotations

from tracker_server.bootstrap import Parts
from tracker_server.consumer.purger import Purger, Swept
from tracker_server.errors import ExperimentNotFound, RunNotFound, TrackerError
from tracker_server.invalidation import Invalidator
from tracker_server.store.store import Store


class NotDeleted(TrackerError):
    """Only what was deleted can be purged."""

    reason = "NOT_DELETED"


async def purge(parts: Parts, *, run_id: str = "", experiment_id: str = "") -> Swept:
    """Applies retention and purges what is due; or only the run, or the experiment with its runs, that is named.

    Rests as if consumers were at work beside it. Raises NotDeleted for what is named and must be deleted first, or is not
    there, and StoreUnavailable.
    """
    invalidator = Invalidator(parts.cache, interval_seconds=parts.bump_interval_seconds)
    # Watchers look by themselves, every now and then.
    purger = Purger(parts.store, invalidator, lambda _: None, holds=lambda _: True, busy=lambda: True)
    try:
        if run_id:
            return await _purge_run(parts.store, purger, run_id)
        if experiment_id:
            return await _purge_experiment(parts.store, purger, experiment_id)
        return await purger.sweep()
    finally:
        await purger.close()
        await invalidator.close()
        await parts.cache.close()


async def _purge_run(store: Store, purger: Purger, run_id: str) -> Swept:
    swept = await purger.purge_run(run_id)
    if not swept.runs:
        try:
            store.read_run(run_id, "", 1)
        except RunNotFound as error:
            raise NotDeleted(str(error)) from None
        message = f"run {run_id!r} is not deleted; DeleteRun deletes it"
        raise NotDeleted(message)
    return swept


async def _purge_experiment(store: Store, purger: Purger, experiment_id: str) -> Swept:
    try:
        store.summarize(experiment_id, "", 1)
    except ExperimentNotFound as error:
        swept = await purger.purge_experiment(experiment_id)
        if not swept.experiments:
            raise NotDeleted(str(error)) from None
        return swept
    message = f"experiment {experiment_id!r} is not deleted; DeleteExperiment deletes it"
    raise NotDeleted(message)
