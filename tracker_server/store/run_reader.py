"""Runs as people ask for them: one with all its details, or a page of a list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, or_, select, tuple_

from tracker_server import limits
from tracker_server.errors import RunNotFound
from tracker_server.model.cuts import Cuts
from tracker_server.model.leases import reason_of_loss
from tracker_server.model.ranges import Ranges
from tracker_server.model.records import AttemptRecord, MetricRecord, RunDetails, RunRecord, WriterRecord
from tracker_server.model.status import Status
from tracker_server.store.series_book import SeriesState, series_state
from tracker_server.store.tables import attempts, runs, series, writers
from tracker_server.store.totals_reader import read_totals

RUN_COLUMNS = tuple(runs.c[name] for name in RunRecord.__dataclass_fields__)
"""What a RunRecord is made of."""


def run_record(row: Sequence[Any]) -> RunRecord:
    """A row of RUN_COLUMNS."""
    return RunRecord(*row[: len(RUN_COLUMNS)])


def read_run(
    connection: Connection, run_id: str, after: str, size: int, read_ms: int, visible: ColumnElement[bool]
) -> RunDetails:
    """A run with a page of its metrics, those whose names follow `after`. Raises RunNotFound."""
    row = connection.execute(select(*RUN_COLUMNS, runs.c.cuts).where(runs.c.run_id == run_id, visible)).one_or_none()
    if row is None:
        raise run_not_found([run_id])
    cuts = tuple((attempt, step) for attempt, step in row.cuts or ())
    metrics = _metrics(connection, run_id, cuts, after, size + 1)
    known = _writers(connection, run_id)
    return RunDetails(
        run_record(row),
        _attempts(connection, run_id, cuts),
        metrics[:size],
        len(metrics) > size,
        _listed(known),
        _is_complete(known, row.ended_ms),
        read_ms,
    )


def list_runs(
    connection: Connection,
    experiment_id: str,
    statuses: Collection[int],
    after: tuple[int, str] | None,
    size: int,
    visible: ColumnElement[bool],
) -> list[RunRecord]:
    """Runs, newest first, that follow `after` (created_ms, run_id) in that order. visible: see visible.py."""
    query = select(*RUN_COLUMNS).where(visible).order_by(runs.c.created_ms.desc(), runs.c.run_id.desc()).limit(size)
    if experiment_id:
        query = query.where(runs.c.experiment_id == experiment_id)
    if statuses:
        query = query.where(runs.c.status.in_(sorted(statuses)))
    if after is not None:
        query = query.where(tuple_(runs.c.created_ms, runs.c.run_id) < after)
    return [run_record(row) for row in connection.execute(query)]


def runs_to_stop(connection: Connection) -> dict[str, int]:
    """Runs that somebody asked to stop, each with its newest attempt."""
    # A stop is for those attempts that had been heard of when it was asked for.
    heard = or_(runs.c.heard_ms.is_(None), runs.c.stop_ms >= runs.c.heard_ms)
    alive = runs.c.last_seen_ms > limits.MIN_TIME_MS
    query = select(runs.c.run_id, runs.c.attempt).where(runs.c.stop_requested, heard, alive)
    return {row.run_id: row.attempt for row in connection.execute(query)}


def run_not_found(run_ids: Collection[str]) -> RunNotFound:
    """Names the runs that are not there."""
    return RunNotFound(f"no run {', '.join(repr(run_id) for run_id in run_ids)}", run_id=",".join(run_ids))


def has_something() -> ColumnElement[bool]:
    """Leaves out series without points whose final value a newer attempt took away."""
    return or_(series.c.last_kind.is_not(None), series.c.final_kind.is_not(None), series.c.stale)


def _metrics(connection: Connection, run_id: str, cuts: Cuts, after: str, size: int) -> list[MetricRecord]:
    """Metrics that have something, by name; stale totals are made from the points."""
    found: list[MetricRecord] = []
    while len(found) < size:
        states = _series_page(connection, run_id, after, size)
        stale = [state for state in states if state.stale]
        made = dict(zip((one.name for one in stale), read_totals(connection, run_id, stale, cuts), strict=True))
        for state in states:
            totals = made.get(state.name, state.totals)
            # All points of a stale one may have been superseded.
            if totals.last is not None or state.final is not None:
                found.append(MetricRecord(state.name, totals, state.final))
        if len(states) < size:
            break
        after = states[-1].name
    return found[:size]


def _series_page(connection: Connection, run_id: str, after: str, size: int) -> list[SeriesState]:
    query = select(series).where(series.c.run_id == run_id, has_something()).order_by(series.c.name).limit(size)
    if after:
        query = query.where(series.c.name > after)
    return [series_state(row) for row in connection.execute(query).mappings()]  # type: ignore[arg-type]  # keys are str


def _attempts(connection: Connection, run_id: str, cuts: Cuts) -> list[AttemptRecord]:
    query = select(attempts).where(attempts.c.run_id == run_id).order_by(attempts.c.attempt)
    rows = connection.execute(query).all()
    known = [row for row in rows if not row.implied] or rows
    rewinds = dict(cuts)
    return [_attempt(row, rewinds.get(row.attempt)) for row in known]


def _attempt(row: Row[Any], rewound_from_step: int | None) -> AttemptRecord:
    is_lost = row.status == Status.RUNNING and row.lost_ms is not None
    return AttemptRecord(
        row.attempt,
        Status.LOST if is_lost else row.status,
        row.first_accepted_ms if row.started_ms is None else row.started_ms,
        row.ended_ms,
        row.last_seen_ms,
        reason_of_loss(row.last_seen_ms) if is_lost else row.reason,
        row.lost_ms if is_lost else None,
        rewound_from_step,
    )


def _writers(connection: Connection, run_id: str) -> list[WriterRecord]:
    """The writers of a run by id; of those of which nobody says what there is to come only such as have refused writes."""
    query = (
        select(writers)
        .where(writers.c.run_id == run_id, or_(writers.c.server_assigned.is_(False), writers.c.dead != ""))
        .order_by(writers.c.writer_id)
    )
    return [
        WriterRecord(
            row.writer_id,
            Ranges.parse(row.applied),
            Ranges.parse(row.dead),
            row.final_sequence,
            row.dropped_points,
            row.server_assigned,
        )
        for row in connection.execute(query)
    ]


def _is_complete(known: Sequence[WriterRecord], ended_ms: int | None) -> bool:
    """Whether everything that was sent is stored; where nobody says what that is, whether the run has ended."""
    own = any(not writer.open_ended for writer in known)
    return all(writer.is_done for writer in known) and (own or ended_ms is not None)


def _listed(known: Sequence[WriterRecord]) -> list[WriterRecord]:
    """As many as an answer may have: those that are not done first, sorted by id."""
    some = sorted(known, key=lambda writer: writer.is_done)[: limits.MAX_LISTED_WRITERS]
    return sorted(some, key=lambda writer: writer.writer_id)
