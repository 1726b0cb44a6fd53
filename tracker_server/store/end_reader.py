"""Attempts that have ended, with what other services are told of them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from tracker_server import limits
from tracker_server.model.records import EndedAttempt
from tracker_server.store.series_book import series_state
from tracker_server.store.tables import attempts, runs, series
from tracker_server.store.totals_reader import made_anew


def ended_attempts(connection: Connection, lowest: Mapping[str, int]) -> list[EndedAttempt]:
    """The attempts of these runs that have ended, from the given number on, as they are stored."""
    query = (
        select(
            attempts,
            runs.c.experiment_id,
            runs.c.attempt.label("newest"),
            runs.c.cuts,
            runs.c.artifacts,
            runs.c.metadata.label("run_metadata"),
        )
        .join(runs, runs.c.run_id == attempts.c.run_id)
        .where(attempts.c.run_id.in_(sorted(lowest)), attempts.c.ended_ms.is_not(None))
        .order_by(attempts.c.run_id, attempts.c.attempt)
    )
    rows = [row for row in connection.execute(query) if row.attempt >= lowest[row.run_id]]
    newest = {
        row.run_id: tuple((attempt, step) for attempt, step in row.cuts or ())
        for row in rows
        if row.attempt == row.newest
    }
    values = _last_values(connection, newest)
    return [
        EndedAttempt(
            row.run_id,
            row.experiment_id,
            row.attempt,
            row.status,
            row.reason,
            row.ended_ms,
            row.final_metrics,
            values.get(row.run_id, {}) if row.attempt == row.newest else {},
            row.artifacts,
            row.run_metadata,
            row.registers["status"],
        )
        for row in rows
    ]


def _last_values(connection: Connection, cuts: dict[str, tuple[tuple[int, int], ...]]) -> dict[str, dict[str, float]]:
    """The last value of each metric that has points, of the first metrics of each run."""
    if not cuts:
        return {}
    number = func.row_number().over(partition_by=series.c.run_id, order_by=series.c.name).label("number")
    first = select(*series.c, number).where(series.c.run_id.in_(sorted(cuts))).subquery()
    values: dict[str, dict[str, float]] = {}
    rows = connection.execute(select(first).where(first.c.number <= limits.MAX_EVENT_METRICS)).mappings().all()
    states = (series_state(row) for row in rows)  # type: ignore[arg-type]  # keys are str
    for state in made_anew(connection, states, cuts):
        if state.totals.last is not None:
            values.setdefault(state.run_id, {})[state.name] = state.totals.last.value
    return values
