"""Totals made anew from the points themselves, of any number of a run's series at once: where a cut took points away
that had been counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import itemgetter

from sqlalchemy import Connection, select

from tracker_server.model.cuts import Cuts, live_until
from tracker_server.model.origins import decode_origins
from tracker_server.model.totals import NOTHING, Totals, column_totals
from tracker_server.store.chunk_reader import ChunkHead, StoredChunk, heads_of_series, read_chunks_of_series
from tracker_server.store.point_reader import writer_ids
from tracker_server.store.series_book import SeriesState, series_state
from tracker_server.store.tables import runs, series

_SERIES_AT_A_TIME = 256
"""Series whose chunks are looked up together."""
_MOST_POINTS = 262_144
"""Points read for one renewal, or one series: it is to be short."""


def read_totals(connection: Connection, run_id: str, states: Sequence[SeriesState], run_cuts: Cuts) -> list[Totals]:
    """Totals of the live points of these series of a run, in their order."""
    if not states:
        return []
    writers = writer_ids(connection, run_id)
    totals: list[Totals] = []
    for start in range(0, len(states), _SERIES_AT_A_TIME):
        some = states[start : start + _SERIES_AT_A_TIME]
        heads = heads_of_series(connection, run_id, [state.series_no for state in some])
        totals += _totals(connection, run_id, some, run_cuts, heads, writers)
    return totals


def renewed(connection: Connection, run_id: str, names: Sequence[str] | None = None) -> tuple[list[SeriesState], bool]:
    """Some of a run's stale series, of these names where given, with their totals made anew; and whether more are stale."""
    run_cuts = connection.execute(select(runs.c.cuts).where(runs.c.run_id == run_id)).scalar_one_or_none()
    query = select(series).where(series.c.run_id == run_id, series.c.stale).order_by(series.c.name)
    if names is not None:
        query = query.where(series.c.name.in_(names))
    rows = connection.execute(query.limit(_SERIES_AT_A_TIME + 1)).mappings().all()
    states = [series_state(row) for row in rows[:_SERIES_AT_A_TIME]]  # type: ignore[arg-type]  # keys are str
    if not states:
        return [], False
    heads = heads_of_series(connection, run_id, [state.series_no for state in states])
    some = list(_first_of(states, heads))
    wanted = {state.series_no for state in some}
    totals = _totals(
        connection,
        run_id,
        some,
        tuple((attempt, step) for attempt, step in run_cuts or ()),
        [(series_no, head) for series_no, head in heads if series_no in wanted],
        writer_ids(connection, run_id),
    )
    for state, one in zip(some, totals, strict=True):
        state.totals = one
        state.stale = False
        state.touch()
    return some, len(some) < len(rows)


def _first_of(states: Sequence[SeriesState], heads: Sequence[tuple[int, ChunkHead]]) -> Iterator[SeriesState]:
    """As many as may be read together, at least one."""
    points: defaultdict[int, int] = defaultdict(int)
    for series_no, head in heads:
        points[series_no] += head.count
    total = 0
    for at, state in enumerate(states):
        total += points[state.series_no]
        if at and total > _MOST_POINTS:
            return
        yield state


def _totals(
    connection: Connection,
    run_id: str,
    states: Sequence[SeriesState],
    run_cuts: Cuts,
    heads: Sequence[tuple[int, ChunkHead]],
    writers: dict[int, str],
) -> list[Totals]:
    by_number = {state.series_no: state for state in states}
    parts: defaultdict[int, list[tuple[int, Totals]]] = defaultdict(list)
    for series_no, chunk in read_chunks_of_series(connection, run_id, heads):
        bound = live_until(chunk.attempt, by_number[series_no].cuts, run_cuts)
        part = _chunk_totals(chunk, bound, writers)
        if part is not None:
            parts[series_no].append((chunk.chunk_no, part))
    # The points of one write may fill several chunks: the last of them has the last point.
    return [_merged(sorted(parts[state.series_no], key=itemgetter(0))) for state in states]


def _chunk_totals(chunk: StoredChunk, bound: int | None, writers: dict[int, str]) -> Totals | None:
    stop = len(chunk.steps)
    if bound is not None and int(chunk.steps[-1]) >= bound:
        stop = int(chunk.steps.searchsorted(bound, side="left"))
    if not stop:
        return None
    who, sequences = decode_origins(chunk.origins)
    return column_totals(
        chunk.steps[:stop],
        chunk.times[:stop],
        chunk.values[:stop],
        writers[int(who[stop - 1])],
        int(sequences[stop - 1]),
    )


def _merged(parts: Sequence[tuple[int, Totals]]) -> Totals:
    totals = NOTHING
    for _, part in parts:
        totals = totals.merged(part)
    return totals
