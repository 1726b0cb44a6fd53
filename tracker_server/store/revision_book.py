"""Which runs changed, in an order that watchers can follow: each transaction that changes runs raises the revision of
their partitions by one, and gives it to the runs.

Whoever changes runs holds their partitions' locks until its commit. So the revisions of a partition have no gaps, and
one that can be read means that all before it can.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from sqlalchemy import Connection, select, tuple_

from tracker_server.model.run import RunState
from tracker_server.model.watching import RunPosition
from tracker_server.model.writes import CloseWriter, Heartbeat, LogPoints, Write
from tracker_server.partitions import partition_of
from tracker_server.store.bulk import Bulk
from tracker_server.store.tables import run_revisions, runs

EXPERIMENT_PAGE_RUNS: Final = 1_000
"""Runs of an experiment that was deleted or restored, in one transaction: some 20 ms."""


def revise(
    connection: Connection,
    bulk: Bulk,
    partitions: int,
    run_ids: Collection[str],
    left: Mapping[str, str] = {},
) -> Mapping[int, int]:
    """Notes that these runs changed, in the transaction that changes them. Returns the new revisions by partition.

    partitions: how many there are; the caller holds the locks of those concerned. left: of runs that moved to another
    experiment, the one that they were in before: whoever watches that one is told too.
    """
    by_partition: defaultdict[int, list[str]] = defaultdict(list)
    for run_id in sorted(run_ids):
        by_partition[partition_of(run_id, partitions)].append(run_id)
    if not by_partition:
        return _NONE
    revisions = bulk.revise(connection, by_partition)
    for run_id, experiment_id in sorted(left.items()):
        here = run_revisions.c.run_id == run_id
        known = connection.execute(select(run_revisions.c.left_experiments).where(here)).scalar_one()
        now = {**(known or {}), experiment_id: revisions[partition_of(run_id, partitions)]}
        connection.execute(run_revisions.update().where(here).values(left_experiments=now))
    return revisions


def revise_experiment(
    connection: Connection,
    bulk: Bulk,
    partitions: int,
    experiment_id: str,
    after: RunPosition | None,
    limit: int,
) -> tuple[Mapping[int, int], RunPosition | None]:
    """Notes that the runs of an experiment read otherwise, since it was deleted or restored: some, oldest first, beyond
    `after`.

    In a transaction of its own, after the one that changed the experiment, and without locks: it takes those of the
    partitions of these runs. Returns the new revisions by partition, and where to go on; None: that was all.
    """
    place = tuple_(runs.c.created_ms, runs.c.run_id)
    query = select(runs.c.created_ms, runs.c.run_id).where(runs.c.experiment_id == experiment_id)
    if after is not None:
        query = query.where(place > after)
    query = query.order_by(runs.c.created_ms, runs.c.run_id).limit(limit)
    found = [RunPosition(*row) for row in connection.execute(query)]
    run_ids = [run.run_id for run in found]
    bulk.lock_partitions(connection, sorted({partition_of(run_id, partitions) for run_id in run_ids}))
    return revise(connection, bulk, partitions, run_ids), found[-1] if len(found) == limit else None


def changed_runs(runs: Mapping[str, RunState], fresh: Iterable[Write]) -> set[str]:
    """The runs, of those that a flush has touched, that read otherwise after its new writes.

    That a run was seen alive is no change, unless it makes the run, revives it, or moves one of its times.
    """
    changed = {write.scope_id for write in fresh if not _only_shows_life(write)} & runs.keys()
    return changed | {run_id for run_id, run in runs.items() if run.is_new or _differs(run)}


_NONE: Final[Mapping[int, int]] = {}


def _differs(run: RunState) -> bool:
    newest = run.newest
    return (
        newest.stands != run.status_stored
        or newest.attempt != run.newest_stored
        or (run.created_ms, newest.began_ms, newest.first_accepted_ms) != run.times_stored
    )


def _only_shows_life(write: Write) -> bool:
    body = write.body
    return isinstance(body, Heartbeat | CloseWriter) or (isinstance(body, LogPoints) and not body.blocks)
