"""The points of chosen metrics of chosen runs: in pages keyed by position, or downsampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, select

from tracker_server.model.cuts import Cuts
from tracker_server.model.records import HistoryPage, Position, SeriesPart
from tracker_server.store.downsampled_reader import read_downsampled
from tracker_server.store.point_reader import NO_POINTS, Points, SeriesReader, StepRange
from tracker_server.store.run_reader import run_not_found
from tracker_server.store.series_book import SeriesState, series_state
from tracker_server.store.tables import runs, series
from tracker_server.store.visible import visible_runs


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """What to read."""

    run_ids: Sequence[str]
    metrics: Sequence[str]
    steps: StepRange
    max_points: int
    """A series; 0: every point."""
    page_points: int
    """Over all series of a page."""
    attempt: int | None = None
    """All points of this attempt, superseded ones included; None: the live points of all attempts."""


def read_history(connection: Connection, query: HistoryQuery, begin: Position) -> HistoryPage:
    """A page of points. Raises RunNotFound."""
    cuts = _run_cuts(connection, query.run_ids)
    states = _series(connection, query)
    wanted = [(run_id, name) for run_id in query.run_ids for name in query.metrics]
    parts: list[SeriesPart] = []
    room = query.page_points
    for index in range(begin.series_index, len(wanted)):
        run_id, name = wanted[index]
        resume = begin if index == begin.series_index else Position(index)
        if room <= 0 or (parts and query.max_points > room):
            return HistoryPage(parts, Position(index))
        state = states.get((run_id, name))
        if state is None:
            parts.append(_part(run_id, name, NO_POINTS, 0))
            continue
        reader = SeriesReader(connection, state, cuts[run_id], query.attempt)
        if query.max_points:
            found = read_downsampled(reader, query.steps, query.max_points)
            parts.append(_part(run_id, name, found.points, found.total, downsampled=len(found.points) < found.total))
            room -= len(found.points)
            continue
        low = query.steps.low if resume.step is None else resume.step
        points, more = reader.page(StepRange(low, query.steps.high), resume.step_offset, room)
        is_whole = not more and resume == Position(index)
        parts.append(_part(run_id, name, points, len(points) if is_whole else reader.count(query.steps)))
        room -= len(points)
        if more:
            return HistoryPage(parts, _following(index, points, resume))
    return HistoryPage(parts, None)


def _part(run_id: str, name: str, points: Points, total: int, *, downsampled: bool = False) -> SeriesPart:
    return SeriesPart(run_id, name, points.steps, points.times, points.values, total, downsampled)


def _following(index: int, points: Points, before: Position) -> Position:
    """The place after the last point returned: its step, and how many points of that step are done."""
    last = int(points.steps[-1])
    done = len(points) - int(np.searchsorted(points.steps, last, side="left"))
    if before.step == last and done == len(points):
        done += before.step_offset
    return Position(index, last, done)


def _run_cuts(connection: Connection, run_ids: Sequence[str]) -> dict[str, Cuts]:
    wanted = runs.c.run_id.in_(run_ids), visible_runs()
    found = connection.execute(select(runs.c.run_id, runs.c.cuts).where(*wanted))
    cuts = {row.run_id: tuple((attempt, step) for attempt, step in row.cuts or ()) for row in found}
    missing = [run_id for run_id in run_ids if run_id not in cuts]
    if missing:
        raise run_not_found(missing)
    return cuts


def _series(connection: Connection, query: HistoryQuery) -> dict[tuple[str, str], SeriesState]:
    rows = connection.execute(
        select(series).where(series.c.run_id.in_(query.run_ids), series.c.name.in_(query.metrics))
    ).mappings()
    states = [series_state(row) for row in rows]  # type: ignore[arg-type]  # keys are str
    return {(state.run_id, state.name): state for state in states}
