"""Purging: what was deleted long enough ago goes for good, a little in each transaction.

First a run is marked, under its partition's lock: from then on nothing that comes for it is stored. Then its rows go,
beside flushes, in the order of their keys. At last only its name is left, and that it was purged: so what comes late does
not bring it back, and watchers are told whenever they come. A purge that dies goes on where the rows end. No commit waits for the disk but the first one's: what a
crash undoes is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, delete, exists, literal, select, tuple_, update

from tracker_server.model.status import DEFAULT_EXPERIMENT
from tracker_server.partitions import partition_of
from tracker_server.store.bulk import Bulk
from tracker_server.store.revision_book import revise
from tracker_server.store.tables import attempts, chunk_tail, chunks, experiments, runs, series, writers
from tracker_server.store.visible import hidden_before

Transaction: TypeAlias = Callable[[Collection[int]], AbstractContextManager[Connection]]
"""Begins one that writes, under the locks of these partitions."""
Snapshot: TypeAlias = Callable[[], AbstractContextManager[Connection]]
"""Begins one that reads."""

_RUN_TABLES = (writers, attempts, chunk_tail, chunks, series)
"""Writers first: without them, who waits for a write is told at once. The tail before the large chunks, since a compaction
moves chunks from there to here."""
_POINT_TABLES = (chunk_tail, chunks)
_MOST_ROWS = 1_024
"""Rows that go in one transaction."""
_MOST_POINTS = 262_144
"""Points that go in one transaction, or one chunk: some 5 MB."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far the rows of a run are gone."""

    points_only: bool = False
    """Only chunks are to go."""
    up_to_attempt: int | None = None
    """Only those of this attempt and older ones; None: of all."""
    table: int = 0
    after: tuple[Any, ...] | None = None
    """The last key of that table that is gone."""

    @property
    def tables(self) -> tuple[Table, ...]:
        """Whose rows go."""
        return _POINT_TABLES if self.points_only else _RUN_TABLES


@dataclass(frozen=True, slots=True)
class Removed:
    """What one transaction did."""

    rows: int = 0
    points: int = 0
    following: Place | None = None
    """Where to go on; None: nothing is left."""


class Purging:
    """The part of the store that purges. Methods raise StoreUnavailable."""

    def __init__(self, transaction: Transaction, snapshot: Snapshot, bulk: Bulk, partitions: int) -> None:
        self._transaction = transaction
        self._snapshot = snapshot
        self._bulk = bulk
        self._partitions = partitions

    def due_runs(self, before_ms: int, after: str, limit: int, experiment_id: str | None = None) -> list[str]:
        """Runs with an id beyond `after` that have been hidden since `before_ms` or longer, and those whose purge has
        begun, by id. experiment_id: only of this experiment."""
        query = _hidden(runs.c.run_id).where(hidden_before(before_ms), runs.c.run_id > after)
        if experiment_id is not None:
            query = query.where(runs.c.experiment_id == experiment_id)
        with self._snapshot() as connection:
            return list(connection.execute(query.order_by(runs.c.run_id).limit(limit)).scalars())

    def begin(self, run_id: str, before_ms: int) -> bool:
        """Marks a run as purged; from then on it cannot be restored. False: it is not, or no longer, due, or has been
        purged whole."""
        own = runs.c.run_id == run_id
        with self._snapshot() as connection:
            experiment_id = connection.execute(select(runs.c.experiment_id).where(own)).scalar()
        if not experiment_id:
            return False
        partitions = {partition_of(scope_id, self._partitions) for scope_id in (run_id, experiment_id)}
        columns = runs.c.purged, runs.c.deleted_ms, runs.c.created_ms, experiments.c.deleted_ms.label("experiment_ms")
        query = _hidden(*columns).where(own, runs.c.experiment_id == experiment_id, hidden_before(before_ms))
        with self._transaction(partitions) as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return False
            if not row.purged:
                since = row.deleted_ms if row.deleted_ms is not None else max(row.experiment_ms, row.created_ms)
                connection.execute(update(runs).where(own).values(deleted_ms=since, **_TOMBSTONE))
                revise(connection, self._bulk, self._partitions, [run_id], {run_id: experiment_id})
            return True

    def remove(self, run_id: str, place: Place) -> Removed | None:
        """Takes away some rows of a run, from a place on. None: somebody else works on its chunks; try again.

        The run must have been marked as purged, or its points as dropped.
        """
        with self._transaction(()) as connection:
            if not self._bulk.begin_compaction(connection, run_id):
                return None
            removed = Removed(0, 0, place)
            while removed.following is not None and removed.rows < _MOST_ROWS and removed.points < _MOST_POINTS:
                removed = _remove_some(connection, run_id, removed, removed.following)
            if removed.following is None and not place.points_only:
                connection.execute(update(runs).where(runs.c.run_id == run_id).values(experiment_id=""))
            return removed

    def due_experiments(self, before_ms: int, after: str, limit: int) -> list[str]:
        """Experiments with an id beyond `after` that were deleted at `before_ms` or earlier and have no runs, by id."""
        query = select(experiments.c.experiment_id).where(
            _purgeable(before_ms), experiments.c.experiment_id > after
        ).order_by(experiments.c.experiment_id).limit(limit)  # fmt: skip
        with self._snapshot() as connection:
            return list(connection.execute(query).scalars())

    def remove_experiment(self, experiment_id: str, before_ms: int) -> bool:
        """Takes away a deleted experiment that has no runs. False: it has some, or is not, or no longer, due.

        No flush may bring a run meanwhile, so this waits until none is under way, in any partition, and lets none begin.
        """
        found = and_(experiments.c.experiment_id == experiment_id, _purgeable(before_ms))
        with self._transaction(range(self._partitions)) as connection:
            if experiment_id == DEFAULT_EXPERIMENT:
                # It is always there.
                return bool(connection.execute(update(experiments).where(found).values(_NEW_EXPERIMENT)).rowcount)
            return bool(connection.execute(delete(experiments).where(found)).rowcount)


def _hidden(*columns: ColumnElement[Any]) -> Select[Any]:
    joined = runs.outerjoin(experiments, experiments.c.experiment_id == runs.c.experiment_id)
    return select(*columns).select_from(joined)


def _purgeable(before_ms: int) -> ColumnElement[bool]:
    has_runs = exists().where(runs.c.experiment_id == experiments.c.experiment_id)
    return and_(experiments.c.deleted_ms.is_not(None), experiments.c.deleted_ms <= before_ms, ~has_runs)


def _remove_some(connection: Connection, run_id: str, before: Removed, place: Place) -> Removed:
    """Takes away the next rows of one table, or goes on to the next table."""
    table = place.tables[place.table]
    keys = [column for column in table.primary_key if column.name != "run_id"]
    own = [table.c.run_id == run_id]
    if place.up_to_attempt is not None:
        own.append(table.c.attempt <= place.up_to_attempt)
    points = table.c.count if table in _POINT_TABLES else literal(0)
    query = select(*keys, points).where(*own).order_by(*keys).limit(_MOST_ROWS - before.rows)
    if place.after is not None:
        query = query.where(tuple_(*keys) > place.after)
    rows, total = 0, before.points
    last: tuple[Any, ...] | None = None
    for row in connection.execute(query):
        rows, total, last = rows + 1, total + row[-1], tuple(row[:-1])
        if total >= _MOST_POINTS:
            break
    if last is None:
        following = replace(place, table=place.table + 1, after=None) if place.table + 1 < len(place.tables) else None
        return replace(before, following=following)
    gone = [*own, tuple_(*keys) <= last]
    if place.after is not None:
        gone.append(tuple_(*keys) > place.after)
    connection.execute(delete(table).where(*gone))
    return Removed(before.rows + rows, total, replace(place, after=last))


_TOMBSTONE: Mapping[str, Any] = {
    **{name: [] for name in ("experiment_conflicts", "tags")},
    **{name: {} for name in ("config", "metadata", "artifacts", "registers", "final_metrics")},
    **dict.fromkeys(("name", "notes", "stop_reason", "parent_run_id", "run_group", "reason"), ""),
    **dict.fromkeys(("status", "attempt", "started_ms", "created_ms", "last_seen_ms"), 0),
    **dict.fromkeys(("series_count", "writer_count"), 0),
    **dict.fromkeys(("ended_ms", "cuts", "stop_ms", "heard_ms", "lost_ms", "points_dropped_ms")),
    "stop_requested": False,
    "purged": True,
}
"""What is left of a run, besides its id and when it was deleted. Its experiment goes last: runs that still have one are
those whose purge has begun."""
_NEW_EXPERIMENT: Mapping[str, Any] = {
    **{name: {} for name in ("metadata", "registers", "metric_definitions")},
    **dict.fromkeys(("name", "notes"), ""),
    **dict.fromkeys(("retention", "deleted_ms")),
    "tags": [],
}
