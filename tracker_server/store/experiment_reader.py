"""Experiments as people ask for them: a page of the list, or one at a glance over all of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Subquery,
    Text,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.sql.expression import ColumnElement

from tracker_server import limits
from tracker_server.errors import ExperimentNotFound
from tracker_server.model.records import AcrossRuns, DashboardStats, ExperimentRecord, ExperimentSummary
from tracker_server.model.status import DEFAULT_EXPERIMENT, Status
from tracker_server.model.totals import HUGE, HUGE_SCALE, mean_of
from tracker_server.store.point_reader import SeriesReader
from tracker_server.store.run_reader import has_something, list_runs
from tracker_server.store.series_book import series_state
from tracker_server.store.tables import experiments, runs, series

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
    names = _metric_names(connection, experiment_id, after, size + 1)
    return ExperimentSummary(
        experiment=_record(row),
        run_counts=[(status, count) for status, count in connection.execute(counts)],
        metrics=_across_runs(connection, experiment_id, names[:size]),
        more_metrics=len(names) > size,
        newest_runs=list_runs(connection, experiment_id, (), None, limits.NEWEST_RUNS),
        read_ms=read_ms,
    )


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
        row.experiment_id, row.name, row.notes, row.tags, row.metadata, row.created_ms, row.run_count
    )


def _metric_names(connection: Connection, experiment_id: str, after: str, size: int) -> list[str]:
    query = (
        select(series.c.name)
        .join(runs, runs.c.run_id == series.c.run_id)
        .where(runs.c.experiment_id == experiment_id, has_something())
        .group_by(series.c.name)
        .order_by(series.c.name)
        .limit(size)
    )
    if after:
        query = query.where(series.c.name > after)
    return list(connection.execute(query).scalars())


def _finals(experiment_id: str, names: Sequence[str]) -> Subquery:
    """Each run's value of each metric: its final metric, else its last value. Stale series are left out."""
    given = series.c.final_kind.is_not(None)
    return (
        select(
            series.c.name,
            series.c.run_id,
            case((given, series.c.final_value), else_=series.c.last_value).label("value"),
            case((given, series.c.final_kind), else_=series.c.last_kind).label("kind"),
        )
        .join(runs, runs.c.run_id == series.c.run_id)
        .where(
            runs.c.experiment_id == experiment_id,
            series.c.name >= names[0],
            series.c.name <= names[-1],
            or_(given, and_(series.c.last_kind.is_not(None), series.c.stale == false())),
        )
        .subquery("finals")
    )


def _across_runs(connection: Connection, experiment_id: str, names: Sequence[str]) -> list[AcrossRuns]:
    if not names:
        return []
    finals = _finals(experiment_id, names)
    value = finals.c.value
    huge = func.abs(value) > HUGE
    totals = (
        select(
            finals.c.name,
            func.count().label("run_count"),
            func.count(value).label("finite_count"),
            func.min(value).label("low"),
            func.max(value).label("high"),
            func.coalesce(func.sum(case((huge, 0.0), else_=value)), 0.0).label("total"),
            func.coalesce(func.sum(case((huge, value * HUGE_SCALE), else_=0.0)), 0.0).label("huge_total"),
        )
        .group_by(finals.c.name)
        .subquery("totals")
    )
    again = finals.alias("again")
    holders = (
        select(
            again.c.name,
            func.min(case((again.c.value == totals.c.low, again.c.run_id))).label("low_run"),
            func.min(case((again.c.value == totals.c.high, again.c.run_id))).label("high_run"),
        )
        .join(totals, totals.c.name == again.c.name)
        .where(or_(again.c.value == totals.c.low, again.c.value == totals.c.high))
        .group_by(again.c.name)
        .subquery("holders")
    )
    query = select(totals, holders.c.low_run, holders.c.high_run).outerjoin(holders, holders.c.name == totals.c.name)
    found = {row.name: row for row in connection.execute(query)}
    stale = _stale_values(connection, experiment_id, names)
    return [_combine(name, found.get(name), stale.get(name, [])) for name in names]


def _combine(name: str, row: Row[Any] | None, extra: list[tuple[float, str]]) -> AcrossRuns:
    """Totals of a metric from the database's own, and the values of runs whose series are stale."""
    finite = [(value, run_id) for value, run_id in extra if abs(value) < float("inf")]
    lows, highs = list(finite), list(finite)
    count, finite_count, total, huge_total = len(extra), len(finite), 0.0, 0.0
    for value, _ in finite:
        if abs(value) > HUGE:
            huge_total += value * HUGE_SCALE
        else:
            total += value
    if row is not None:
        count += row.run_count
        finite_count += row.finite_count
        total += row.total
        huge_total += row.huge_total
        if row.low is not None:
            lows.append((row.low, row.low_run))
            highs.append((row.high, row.high_run))
    return AcrossRuns(
        name,
        count,
        count - finite_count,
        min(lows, default=None),
        min(highs, key=lambda pair: (-pair[0], pair[1]), default=None),
        mean_of(total, huge_total, finite_count),
    )


def _stale_values(
    connection: Connection, experiment_id: str, names: Sequence[str]
) -> dict[str, list[tuple[float, str]]]:
    query = (
        select(*series.c, runs.c.cuts.label("run_cuts"))
        .join(runs, runs.c.run_id == series.c.run_id)
        .where(
            runs.c.experiment_id == experiment_id,
            series.c.stale,
            series.c.final_kind.is_(None),
            series.c.name >= names[0],
            series.c.name <= names[-1],
        )
    )
    values: dict[str, list[tuple[float, str]]] = {}
    for row in connection.execute(query).mappings():
        state = series_state(row)  # type: ignore[arg-type]  # keys are str
        cuts = tuple((attempt, step) for attempt, step in row["run_cuts"] or ())
        last = SeriesReader(connection, state, cuts).totals().last
        if last is not None:
            values.setdefault(state.name, []).append((last.value, state.run_id))
    return values
