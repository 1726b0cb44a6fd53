"""What runs have of a metric, for conditions and orders: the rows of `series`, with stale totals made anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, FromClause, RowMapping, false, literal, select, union_all

from tracker_server.store.series_book import SeriesState, series_columns, series_state
from tracker_server.store.tables import runs, series
from tracker_server.store.totals_reader import made_anew

MAX_STALE: Final = 500
"""Stale series that are made anew for one read. They are stale for a moment only; of more, the others count as they were."""
_COLUMNS: Final = (
    "run_id",
    "name",
    "count",
    "finite_count",
    "last_value",
    "last_kind",
    "min_value",
    "max_value",
    "sum",
    "huge_sum",
    "final_value",
    "final_kind",
)


def metric_rows(connection: Connection, names: Iterable[str]) -> dict[str, FromClause]:
    """By name of the metric, what to select its rows from: columns are those of `series`."""
    wanted = sorted(names)
    anew: dict[str, list[SeriesState]] = {}
    for state in _stale(connection, wanted):
        anew.setdefault(state.name, []).append(state)
    return {
        name: _patched(anew[name], f"m{number}") if name in anew else series.alias(f"m{number}")
        for number, name in enumerate(wanted)
    }


def _stale(connection: Connection, names: list[str]) -> list[SeriesState]:
    if not names:
        return []
    query = (
        select(series, runs.c.cuts.label("run_cuts"))
        .join(runs, runs.c.run_id == series.c.run_id)
        .where(series.c.stale, series.c.name.in_(names))
        .limit(MAX_STALE)
    )
    return renewed_states(connection, connection.execute(query).mappings().all())


def renewed_states(connection: Connection, rows: Iterable[RowMapping]) -> list[SeriesState]:
    """The series of rows that have the run's cuts as `run_cuts`, stale totals made anew."""
    listed = list(rows)
    cuts = {row["run_id"]: tuple((attempt, step) for attempt, step in row["run_cuts"] or ()) for row in listed}
    states = (series_state(row) for row in listed)  # type: ignore[arg-type]  # keys are str
    return made_anew(connection, states, cuts)


def _patched(anew: list[SeriesState], alias: str) -> FromClause:
    """The rows of one metric, with those that were made anew in place of the stale ones."""
    kept = select(*(series.c[name] for name in _COLUMNS)).where(
        series.c.name == anew[0].name, series.c.run_id.not_in([state.run_id for state in anew])
    )
    columns = series_columns(anew)
    # The first row, which is no row, has the types.
    typed = select(*(series.c[name] for name in _COLUMNS)).where(false())
    made = [
        select(*(literal(columns[name][at], series.c[name].type).label(name) for name in _COLUMNS))
        for at in range(len(anew))
    ]
    return union_all(kept, typed, *made).subquery(alias)
