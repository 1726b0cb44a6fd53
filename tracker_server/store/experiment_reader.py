"""Experiments as people ask for them: a page of the list, or one at a glance over all of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, Select, Text, and_, case, cast, exists, func, or_, select, tuple_
from sqlalchemy.sql.expression import ColumnElement

from tracker_server import limits
from tracker_server.errors import ExperimentNotFound
from tracker_server.model.cuts import Cuts
from tracker_server.model.records import (
    AcrossRuns,
    DashboardStats,
    ExperimentRecord,
    ExperimentSummary,
    ListedMetric,
)
from tracker_server.model.status import DEFAULT_EXPERIMENT, Status
from tracker_server.model.totals import HUGE, HUGE_SCALE, mean_of
from tracker_server.model.typed_json import Json
from tracker_server.store.final_values import FinalTotals, final_totals
from tracker_server.store.run_reader import has_something, list_runs
from tracker_server.store.series_book import SeriesState, series_state
from tracker_server.store.tables import experiments, runs, series
from tracker_server.store.totals_reader import read_last_values
from tracker_server.store.visible import visible_runs

_DAY_MS = 86_400_000


def list_experiments(connection: Connection, after: tuple[int, str] | None, size: int) -> list[ExperimentRecord]:
    """Experiments, newest first, that follow `after` (created_ms, experiment_id) in that order."""
    query = _experiments().order_by(experiments.c.created_ms.desc(), experiments.c.experiment_id.desc()).limit(size)
    if after is not None:
        query = query.where(tuple_(experiments.c.created_ms, experiments.c.experiment_id) < after)
    return [_record(row) for row in connection.execute(query)]


def summarize(connection: Connection, experiment_id: str, after: str, size: int, read_ms: int) -> ExperimentSummary:
    """An experiment with a page of its metrics, those whose names follow `after`. Raises ExperimentNotFound."""
    row = connection.execute(_experiments().where(experiments.c.experiment_id == experiment_id)).one_or_none()
    if row is None:
        raise ExperimentNotFound(f"no experiment {experiment_id!r}", experiment_id=experiment_id)
    counts = (
        select(runs.c.status, func.count())
        .where(runs.c.experiment_id == experiment_id)
        .group_by(runs.c.status)
        .order_by(runs.c.status)
    )
    newest = list_runs(connection, experiment_id, (), None, limits.NEWEST_RUNS)
    run_counts = [(status, count) for status, count in connection.execute(counts)]
    # Last, since it changes the planner's settings for the rest of the transaction.
    metrics = _across_runs(connection, experiment_id, after, size + 1)
    return ExperimentSummary(
        experiment=_record(row),
        run_counts=run_counts,
        metrics=metrics[:size],
        more_metrics=len(metrics) > size,
        newest_runs=newest,
        read_ms=read_ms,
    )


def list_metrics(
    connection: Connection, experiment_id: str, prefix: str, after: str, size: int
) -> tuple[list[ListedMetric], Mapping[str, Json]]:
    """Metrics whose names begin with the prefix and follow `after`, by name, and the experiment's definitions."""
    query = (
        select(series.c.name, func.count())
        .join(runs, runs.c.run_id == series.c.run_id)
        .where(visible_runs(), has_something(), series.c.name > after, series.c.name >= prefix)
        .group_by(series.c.name)
        .order_by(series.c.name)
        .limit(size)
    )
    if prefix:
        query = query.where(func.substr(series.c.name, 1, len(prefix)) == prefix)
    definitions: Mapping[str, Json] = {}
    if experiment_id:
        query = query.where(runs.c.experiment_id == experiment_id)
        found = select(experiments.c.metric_definitions).where(experiments.c.experiment_id == experiment_id)
        definitions = connection.execute(found).scalar_one_or_none() or {}
    return [ListedMetric(name, count) for name, count in connection.execute(query)], definitions


def dashboard_stats(connection: Connection, read_ms: int) -> DashboardStats:
    """Counts over everything; "today" is the UTC day of `read_ms`."""
    midnight = read_ms // _DAY_MS * _DAY_MS
    today = and_(runs.c.status == Status.COMPLETED, runs.c.ended_ms >= midnight, runs.c.ended_ms < midnight + _DAY_MS)
    row = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(case((runs.c.status == Status.RUNNING, 1), else_=0)), 0),
            func.coalesce(func.sum(case((today, 1), else_=0)), 0),
        ).select_from(runs)
    ).one()
    listed = connection.execute(select(func.count()).select_from(experiments).where(_is_listed())).scalar_one()
    return DashboardStats(listed, row[0], int(row[1]), int(row[2]), read_ms)


def _experiments() -> Select[Any]:
    count = select(func.count()).where(runs.c.experiment_id == experiments.c.experiment_id).scalar_subquery()
    return select(*experiments.c, count.label("run_count")).where(_is_listed())


def _is_listed() -> ColumnElement[bool]:
    """The default experiment has always been there, but shows only once there is something in it."""
    has_runs = exists().where(runs.c.experiment_id == experiments.c.experiment_id)
    was_changed = cast(experiments.c.registers, Text) != "{}"
    return or_(experiments.c.experiment_id != DEFAULT_EXPERIMENT, has_runs, was_changed)


def _record(row: Row[Any]) -> ExperimentRecord:
    return ExperimentRecord(
        row.experiment_id,
        row.name,
        row.notes,
        row.tags,
        row.metadata,
        row.created_ms,
        row.metric_definitions,
        row.retention,
        row.deleted_ms,
        row.run_count,
    )


def _across_runs(connection: Connection, experiment_id: str, after: str, size: int) -> list[AcrossRuns]:
    """At most so many metrics, those whose names follow `after`."""
    found = final_totals(connection, experiment_id, after, size)
    stale = _stale_values(connection, experiment_id, after)
    names = sorted({*found, *stale})[:size]
    return [_combine(name, found.get(name), stale.get(name, [])) for name in names]


def _combine(name: str, totals: FinalTotals | None, extra: list[tuple[float, str]]) -> AcrossRuns:
    """Totals of a metric from the database's own, and the values of runs whose series are stale."""
    finite = [(value, run_id) for value, run_id in extra if abs(value) < float("inf")]
    lows, highs = list(finite), list(finite)
    count, finite_count, total, huge_total = len(extra), len(finite), 0.0, 0.0
    for value, _ in finite:
        if abs(value) > HUGE:
            huge_total += value * HUGE_SCALE
        else:
            total += value
    if totals is not None:
        count += totals.run_count
        finite_count += totals.finite_count
        total += totals.total
        huge_total += totals.huge_total
        lows += [totals.low] if totals.low is not None else []
        highs += [totals.high] if totals.high is not None else []
    return AcrossRuns(
        name,
        count,
        count - finite_count,
        min(lows, default=None),
        min(highs, key=lambda pair: (-pair[0], pair[1]), default=None),
        mean_of(total, huge_total, finite_count),
    )


def _stale_values(connection: Connection, experiment_id: str, after: str) -> dict[str, list[tuple[float, str]]]:
    query = (
        select(*series.c, runs.c.cuts.label("run_cuts"))
        .join(runs, runs.c.run_id == series.c.run_id)
        .where(runs.c.experiment_id == experiment_id, series.c.stale, series.c.final_kind.is_(None))
    )
    by_run: dict[str, tuple[Cuts, list[SeriesState]]] = {}
    for row in connection.execute(query).mappings():
        # Not in the query: SQLite would go through all names of each run instead of the few series that are stale.
        if row["name"] <= after:
            continue
        cuts = tuple((attempt, step) for attempt, step in row["run_cuts"] or ())
        by_run.setdefault(row["run_id"], (cuts, []))[1].append(series_state(row))  # type: ignore[arg-type]  # keys are str
    values: dict[str, list[tuple[float, str]]] = {}
    for run_id, (cuts, states) in by_run.items():
        for state, value in zip(states, read_last_values(connection, run_id, states, cuts), strict=True):
            if value is not None:
                values.setdefault(state.name, []).append((value, run_id))
    return values
