"""Runs as they change, for watchers: page by page, each page in one snapshot, from wherever a watcher has come to.

Within a partition changes are given by revision. A run that changes again before its turn moves to the end, so each is
given once, as it is, however often it changed; and those that no longer change, such as completed ones, come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, func, select, tuple_

from tracker_server.errors import InvalidRequest, Violation
from tracker_server.model.records import MetricRecord, RunChange
from tracker_server.model.watching import ChangePosition, Cursor, RunPosition, WatchQuery
from tracker_server.partitions import partition_of
from tracker_server.store.run_reader import RUN_COLUMNS, has_something, run_record
from tracker_server.store.series_book import series_state
from tracker_server.store.tables import experiments, partition_revisions, run_revisions, runs, series
from tracker_server.store.totals_reader import made_anew
from tracker_server.store.visible import visible_runs

PAGE_RUNS: Final = 100
"""Runs a page, at most."""
MAX_LOOKED_AT: Final = 1_000
"""Changed runs that one read looks at, at most, where those of other experiments are to be left out."""
_LOADED: Final = 25
"""Runs loaded at a time: so many more than fit may be read in vain."""

Add = Callable[[RunChange], bool]
"""Takes a run for the page; False: the page is full with it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a read has come."""

    cursor: Cursor
    more: bool
    """Whether there is more of the snapshot, or of what had changed when the round began."""
    behind: bool = False
    """Whether there were changes since the round began, which is over."""


def present_revisions(connection: Connection, partitions: int) -> tuple[int, ...]:
    """The revision of each partition; 0 where no run ever changed."""
    found = {row.partition: row.revision for row in connection.execute(select(partition_revisions))}
    return tuple(found.get(partition, 0) for partition in range(partitions))


def read_snapshot(connection: Connection, query: WatchQuery, cursor: Cursor, add: Add) -> Progress:
    """Gives a page of the runs that are there, newest first. What changed after the snapshot's begin is left to
    read_changes.

    The cursor must be within a snapshot.
    """
    position = cursor.snapshot
    assert position is not None
    place = tuple_(runs.c.created_ms, runs.c.run_id)
    columns = (*_COLUMNS, func.coalesce(run_revisions.c.revision, 0).label("revision"))
    wanted = (
        select(*columns)
        .select_from(_WITH_EXPERIMENT)
        .outerjoin(run_revisions, run_revisions.c.run_id == runs.c.run_id)
        .where(visible_runs(), *_chosen(query))
        .order_by(runs.c.created_ms.desc(), runs.c.run_id.desc())
        .limit(_LOADED)
    )
    for _ in range(MAX_LOOKED_AT // _LOADED):
        rows = connection.execute(wanted.where(place < position)).all()
        seen = [
            row for row in rows if row.revision <= cursor.revisions[partition_of(row.run_id, len(cursor.revisions))]
        ]
        for change in _loaded(connection, query, seen):
            position = RunPosition(change.run.created_ms, change.run.run_id)
            if not add(change):
                return Progress(replace(cursor, snapshot=position), more=True)
        if len(rows) < _LOADED:
            return Progress(replace(cursor, snapshot=None), more=True)
        position = RunPosition(rows[-1].created_ms, rows[-1].run_id)
    return Progress(replace(cursor, snapshot=position), more=True)


def read_changes(connection: Connection, query: WatchQuery, cursor: Cursor, add: Add) -> Progress:
    """Gives a page of the runs that changed after the cursor. Raises InvalidRequest when the database is behind it."""
    partitions = len(cursor.revisions)
    present = present_revisions(connection, partitions)
    if any(seen > there for seen, there in zip(cursor.revisions, present, strict=True)):
        raise InvalidRequest(
            [
                Violation(
                    "revision", "is ahead of the database, which was restored, it seems; begin anew, with a snapshot"
                )
            ]
        )
    targets = cursor.targets or present
    reached = list(cursor.revisions)
    position = cursor.position
    left = MAX_LOOKED_AT if query.experiment_id else PAGE_RUNS
    first = cursor.first
    for partition in _turns(query, partitions, first if position is None else position.partition):
        if reached[partition] >= targets[partition]:
            continue
        after = position if position is not None and position.partition == partition else None
        position = None
        begin = ChangePosition(partition, reached[partition], "") if after is None else after
        # Without a place within it, all of the cursor's own revision has been given.
        rows = _changed(connection, query, begin, targets[partition], left, whole=after is None)
        wanted = [row for row in rows if _concerns(query, row, reached[partition])]
        for change in _states(connection, query, wanted):
            first = (partition + 1) % partitions
            if not add(change):
                place = ChangePosition(partition, change.revision, change.run.run_id)
                return Progress(Cursor(tuple(reached), place, targets=targets, first=first), more=True)
        if len(rows) >= left:
            place = ChangePosition(partition, rows[-1].revision, rows[-1].run_id)
            return Progress(Cursor(tuple(reached), place, targets=targets, first=first), more=True)
        left -= len(rows)
        reached[partition] = targets[partition]
    # Where only some partitions are of interest, the others are passed too.
    return Progress(Cursor(targets, first=first), more=False, behind=present != targets)


_COLUMNS: Final = (
    *RUN_COLUMNS, runs.c.cuts, runs.c.purged, experiments.c.deleted_ms.label("experiment_deleted_ms"),
)  # fmt: skip
_WITH_EXPERIMENT: Final = runs.outerjoin(experiments, experiments.c.experiment_id == runs.c.experiment_id)


def _turns(query: WatchQuery, partitions: int, first: int) -> Sequence[int]:
    """The partitions that can have what is asked for, in the order in which they have their turns."""
    chosen = {partition_of(run_id, partitions) for run_id in query.run_ids} or range(partitions)
    return sorted(chosen, key=lambda partition: (partition - first) % partitions)


def _chosen(query: WatchQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.run_ids:
        conditions.append(runs.c.run_id.in_(query.run_ids))
    if query.experiment_id:
        conditions.append(runs.c.experiment_id == query.experiment_id)
    return conditions


def _changed(
    connection: Connection, query: WatchQuery, begin: ChangePosition, target: int, limit: int, *, whole: bool
) -> Sequence[Row[Any]]:
    """The runs that changed in a partition, by revision, then by run. whole: begin with the revision after `begin`."""
    change = run_revisions.c
    # The index ends with the revision.
    after = [change.revision > begin.revision if whole else change.revision >= begin.revision]
    if not whole:
        after.append(tuple_(change.revision, change.run_id) > (begin.revision, begin.run_id))
    found = (
        select(run_revisions)
        .where(change.partition == begin.partition, *after, change.revision <= target)
        .order_by(change.revision, change.run_id)
        .limit(limit)
    )
    if query.experiment_id:
        found = found.add_columns(runs.c.experiment_id).join(runs, runs.c.run_id == change.run_id)
    if query.run_ids:
        found = found.where(change.run_id.in_(query.run_ids))
    return connection.execute(found).all()


def _concerns(query: WatchQuery, row: Row[Any], seen: int) -> bool:
    """Whether a run is, or was until a revision that has not been seen, of the experiment asked for."""
    if not query.experiment_id or row.experiment_id == query.experiment_id:
        return True
    return int((row.left_experiments or {}).get(query.experiment_id, 0)) > seen


def _states(connection: Connection, query: WatchQuery, changed: Sequence[Row[Any]]) -> Iterator[RunChange]:
    for start in range(0, len(changed), _LOADED):
        revisions = {row.run_id: row.revision for row in changed[start : start + _LOADED]}
        found = select(*_COLUMNS).select_from(_WITH_EXPERIMENT).where(runs.c.run_id.in_(sorted(revisions)))
        rows = {row.run_id: row for row in connection.execute(found)}
        yield from _loaded(connection, query, [rows[run_id] for run_id in revisions], revisions)


def _loaded(
    connection: Connection, query: WatchQuery, rows: Sequence[Row[Any]], revisions: dict[str, int] | None = None
) -> Iterator[RunChange]:
    """Runs with their metrics. revisions: of rows that have none."""
    metrics = _metrics(connection, query, rows)
    for row in rows:
        revision = row.revision if revisions is None else revisions[row.run_id]
        yield RunChange(run_record(row), metrics.get(row.run_id, []), revision, row.purged, row.experiment_deleted_ms)


def _metrics(connection: Connection, query: WatchQuery, rows: Sequence[Row[Any]]) -> dict[str, list[MetricRecord]]:
    cuts = {row.run_id: tuple((attempt, step) for attempt, step in row.cuts or ()) for row in rows if not row.purged}
    if not cuts or not query.max_metrics:
        return {}
    number = func.row_number().over(partition_by=series.c.run_id, order_by=series.c.name).label("number")
    ranked = select(*series.c, number).where(series.c.run_id.in_(sorted(cuts)), has_something())
    if query.metrics:
        ranked = ranked.where(series.c.name.in_(query.metrics))
    first = ranked.subquery()
    found = select(first).where(first.c.number <= query.max_metrics).order_by(first.c.run_id, first.c.number)
    metrics: dict[str, list[MetricRecord]] = {}
    states = (series_state(row) for row in connection.execute(found).mappings().all())  # type: ignore[arg-type]  # keys are str
    for state in made_anew(connection, states, cuts):
        # All points of a stale one may have been superseded.
        if state.totals.last is not None or state.final is not None:
            metrics.setdefault(state.run_id, []).append(MetricRecord(state.name, state.totals, state.final))
    return metrics
