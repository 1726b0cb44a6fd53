"""What the final values of an experiment's runs come to, metric by metric. Stale series are left out.

A run's final value of a metric is its final metric, else its last value. Of several runs that have the smallest or the
largest value, the one counts whose id sorts first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Double, Integer, and_, case, cast, false, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import aggregate_order_by, array
from sqlalchemy.sql.expression import ColumnElement

from tracker_server.model.totals import HUGE, HUGE_SCALE
from tracker_server.store.tables import runs, series
from tracker_server.store.visible import undeleted_runs

_SERIES_BYTES = 460
"""What a row of `series` takes in PostgreSQL, the empty half of its page included."""
_LARGE_SHARE = 1 / 3
"""From so much of the whole table on, PostgreSQL is faster reading all of it than a run at a time."""
_FIRST_RUNS = 16
"""Runs in which SQLite looks for extremes before it looks in all."""
_PAIRS_A_QUERY = 10_000
"""SQLite takes 32,766 parameters a statement."""


class FinalTotals(NamedTuple):
    """One metric."""

    run_count: int
    finite_count: int
    low: tuple[float, str] | None
    """The smallest finite value and its run; None when there is none."""
    high: tuple[float, str] | None
    total: float
    """Sum of the finite values up to HUGE."""
    huge_total: float
    """Sum of the finite values beyond HUGE, each times HUGE_SCALE."""


def final_totals(connection: Connection, experiment_id: str, after: str, size: int) -> dict[str, FinalTotals]:
    """At most so many metrics, those whose names follow `after`, by name."""
    read = _in_postgresql if connection.dialect.name == "postgresql" else _in_sqlite
    return read(connection, experiment_id, after, size)


def _chosen(experiment_id: str) -> ColumnElement[bool]:
    """The runs that count."""
    return and_(runs.c.experiment_id == experiment_id, undeleted_runs())


_GIVEN = series.c.final_kind.is_not(None)
_VALUE = case((_GIVEN, series.c.final_value), else_=series.c.last_value)
"""NULL unless it is finite."""
_HAS_ONE = or_(_GIVEN, and_(series.c.last_kind.is_not(None), series.c.stale == false()))


def _sums(value: ColumnElement[Any]) -> tuple[ColumnElement[float], ColumnElement[float]]:
    huge = func.abs(value) > HUGE
    return (
        func.coalesce(func.sum(case((huge, 0.0), else_=value)), 0.0).label("total"),
        func.coalesce(func.sum(case((huge, value * HUGE_SCALE), else_=0.0)), 0.0).label("huge_total"),
    )


# ------------------------------------------------------------ PostgreSQL


def _in_postgresql(connection: Connection, experiment_id: str, after: str, size: int) -> dict[str, FinalTotals]:
    """One statement, in parallel: a run's number in the order of ids stands beside each value, so that the smallest of
    (value, number) is the smallest value with its run. Arrays are what PostgreSQL 15 can compare so."""
    if _is_large_share(connection, experiment_id):
        # It knows nothing of the array's length, and takes it for short.
        connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
        connection.exec_driver_sql("SET LOCAL enable_sort = off")
        # Statistics from when there were few runs take every name for a group of its own, and then no worker is used.
        connection.exec_driver_sql("SET LOCAL parallel_tuple_cost = 0")
    ids = func.array_agg(aggregate_order_by(runs.c.run_id, runs.c.run_id))
    chosen = select(ids.label("ids")).where(_chosen(experiment_id)).cte("chosen").prefix_with("MATERIALIZED")
    all_ids = select(chosen.c.ids).scalar_subquery()
    numbered = func.unnest(all_ids).table_valued("run_id", with_ordinality="number", name="numbered").render_derived()
    finals = (
        select(series.c.name, cast(numbered.c.number, Double).label("number"), _VALUE.label("value"))
        .select_from(numbered.join(series, series.c.run_id == numbered.c.run_id))
        .where(_HAS_ONE, series.c.name > after)
        .subquery("finals")
    )
    value, number = finals.c.value, finals.c.number
    finite = value.is_not(None)
    totals = (
        select(
            finals.c.name,
            func.count().label("run_count"),
            func.count(value).label("finite_count"),
            func.min(array([value, number], type_=Double)).filter(finite).label("low"),
            func.max(array([value, -number], type_=Double)).filter(finite).label("high"),
            *_sums(value),
        )
        .group_by(finals.c.name)
        .subquery("totals")
    )
    query = (
        select(
            totals,
            totals.c.low[1].label("low_value"),
            all_ids[cast(totals.c.low[2], Integer)].label("low_run"),
            totals.c.high[1].label("high_value"),
            all_ids[cast(-totals.c.high[2], Integer)].label("high_run"),
        )
        .order_by(totals.c.name)
        .limit(size)
    )
    return {
        row.name: FinalTotals(
            row.run_count,
            row.finite_count,
            None if row.low_run is None else (row.low_value, row.low_run),
            None if row.high_run is None else (row.high_value, row.high_run),
            row.total,
            row.huge_total,
        )
        for row in connection.execute(query)
    }


def _is_large_share(connection: Connection, experiment_id: str) -> bool:
    """Whether the experiment has much of all there is, by what runs and pages say themselves: the planner's statistics
    may be older than the experiment."""
    wanted = select(func.coalesce(func.sum(runs.c.series_count), 0)).where(_chosen(experiment_id)).scalar_subquery()
    rows, size = connection.execute(select(wanted, func.pg_relation_size("series"))).one()
    return bool(rows * _SERIES_BYTES >= _LARGE_SHARE * size)


# ------------------------------------------------------------ SQLite


def _in_sqlite(connection: Connection, experiment_id: str, after: str, size: int) -> dict[str, FinalTotals]:
    """The values first, then who has them: often the first runs do, as where all have the same value. Values go back as
    parameters, since SQLite reads a double from a text not quite exactly."""
    finals = (
        select(series.c.name, runs.c.run_id, _VALUE.label("value"))
        .select_from(runs.join(series, series.c.run_id == runs.c.run_id))
        .where(_chosen(experiment_id), _HAS_ONE)
    )
    listed = finals.where(series.c.name > after).subquery("finals")
    value = listed.c.value
    query = (
        select(
            listed.c.name,
            func.count().label("run_count"),
            func.count(value).label("finite_count"),
            func.min(value).label("low"),
            func.max(value).label("high"),
            *_sums(value),
        )
        .group_by(listed.c.name)
        .order_by(listed.c.name)
        .limit(size)
    )
    found = connection.execute(query).all()
    wanted = {(row.name, value) for row in found for value in (row.low, row.high) if value is not None}
    first = select(runs.c.run_id).where(_chosen(experiment_id)).order_by(runs.c.run_id).limit(_FIRST_RUNS)
    holders: dict[tuple[str, float], str] = {}
    for name, run_id, one in connection.execute(
        finals.where(runs.c.run_id.in_(first), series.c.name > after).order_by(runs.c.run_id)
    ):
        if (name, one) in wanted:
            holders.setdefault((name, one), run_id)
    missing = sorted(wanted - holders.keys())
    everywhere = finals.subquery("finals")
    pair = tuple_(everywhere.c.name, everywhere.c.value)
    for start in range(0, len(missing), _PAIRS_A_QUERY):
        holding = (
            select(everywhere.c.name, everywhere.c.value, func.min(everywhere.c.run_id))
            .where(pair.in_(missing[start : start + _PAIRS_A_QUERY]))
            .group_by(everywhere.c.name, everywhere.c.value)
        )
        holders.update({(name, one): run_id for name, one, run_id in connection.execute(holding)})
    return {
        row.name: FinalTotals(
            row.run_count,
            row.finite_count,
            None if row.low is None else (row.low, holders[row.name, row.low]),
            None if row.high is None else (row.high, holders[row.name, row.high]),
            row.total,
            row.huge_total,
        )
        for row in found
    }
