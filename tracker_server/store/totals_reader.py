"""Totals made anew from the points themselves, of any number of a run's series at once: where a cut took points away
that had been counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, select

from tracker_server import limits
from tracker_server.model.cuts import Cuts, live_until
from tracker_server.model.origins import decode_origins
from tracker_server.model.totals import NOTHING, Last, Totals, column_totals
from tracker_server.store.chunk_reader import ChunkHead, StoredChunk, heads_of_series, read_chunks_of_series
from tracker_server.store.point_reader import writer_ids
from tracker_server.store.series_book import SeriesState, series_state
from tracker_server.store.tables import runs, series

_SERIES_AT_A_TIME = 256
"""Series whose chunks are looked up together."""
_MOST_POINTS = 262_144
"""Points read for one renewal, or one series: it is to be short."""
_GATHERED_POINTS = 131_072
"""Points held at a time, 24 bytes each."""


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


def made_anew(connection: Connection, states: Iterable[SeriesState], run_cuts: Mapping[str, Cuts]) -> list[SeriesState]:
    """These series of any runs, with right totals where theirs are stale. run_cuts: by run."""
    listed = list(states)
    stale: defaultdict[str, list[SeriesState]] = defaultdict(list)
    for state in listed:
        if state.stale:
            stale[state.run_id].append(state)
    for run_id, some in stale.items():
        for state, totals in zip(some, read_totals(connection, run_id, some, run_cuts[run_id]), strict=True):
            state.totals = totals
    return listed


def read_last_values(
    connection: Connection, run_id: str, states: Sequence[SeriesState], run_cuts: Cuts
) -> list[float | None]:
    """The values of the last live points of these series of a run, in their order; None where there is none.

    Only the chunks that may have them are read.
    """
    if not states:
        return []
    writers = writer_ids(connection, run_id)
    lasts: list[Last | None] = []
    for start in range(0, len(states), _SERIES_AT_A_TIME):
        some = states[start : start + _SERIES_AT_A_TIME]
        heads = _last_heads(some, run_cuts, heads_of_series(connection, run_id, [state.series_no for state in some]))
        lasts += [totals.last for totals in _totals(connection, run_id, some, run_cuts, heads, writers)]
    return [None if last is None else last.value for last in lasts]


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


def _last_heads(
    states: Sequence[SeriesState], run_cuts: Cuts, heads: Iterable[tuple[int, ChunkHead]]
) -> Iterator[tuple[int, ChunkHead]]:
    """The chunks in which the last live points may be."""
    by_number = {state.series_no: state for state in states}
    own: defaultdict[int, list[tuple[ChunkHead, int]]] = defaultdict(list)
    for series_no, head in heads:
        bound = live_until(head.attempt, by_number[series_no].cuts, run_cuts)
        if bound is None or head.first_step < bound:
            own[series_no].append((head, head.last_step if bound is None else min(head.last_step, bound - 1)))
    for series_no, some in own.items():
        # Where a chunk is live whole, its last step is that of a point.
        certain = max((end for head, end in some if end == head.last_step), default=limits.MIN_STEP)
        yield from ((series_no, head) for head, end in some if end >= certain)


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
    heads: Iterable[tuple[int, ChunkHead]],
    writers: Mapping[int, str],
) -> list[Totals]:
    by_number = {state.series_no: state for state in states}
    parts: defaultdict[int, list[_Part]] = defaultdict(list)
    stretches: defaultdict[int, list[_Stretch]] = defaultdict(list)
    gathered = 0
    # Series by series, so that little of each is in memory at a time.
    ordered = sorted(heads, key=lambda item: (item[0], item[1].chunk_no))
    for series_no, chunk in read_chunks_of_series(connection, run_id, ordered):
        stop = _live_points(chunk, live_until(chunk.attempt, by_number[series_no].cuts, run_cuts))
        if stop:
            stretches[series_no].append(_Stretch(chunk, stop))
            gathered += stop
        if gathered >= _GATHERED_POINTS:
            _add_up(stretches, parts, writers)
            gathered = 0
    _add_up(stretches, parts, writers)
    return [_merged(parts[state.series_no]) for state in states]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The live points of a chunk."""

    chunk: StoredChunk
    stop: int

    @property
    def end(self) -> tuple[int, int]:
        """Step and time of the last one."""
        return int(self.chunk.steps[self.stop - 1]), int(self.chunk.times[self.stop - 1])

    def last_origin(self, writers: Mapping[int, str]) -> tuple[str, int, int]:
        """Writer and sequence of the last one, then the chunk: points of one write may fill several of them."""
        who, sequences = decode_origins(self.chunk.origins)
        return writers[int(who[self.stop - 1])], int(sequences[self.stop - 1]), self.chunk.chunk_no


@dataclass(frozen=True, slots=True)
class _Part:
    """Totals of some chunks."""

    last_chunk: int
    """The one that has the last point."""
    totals: Totals


def _live_points(chunk: StoredChunk, bound: int | None) -> int:
    if bound is None or int(chunk.steps[-1]) < bound:
        return len(chunk.steps)
    return int(chunk.steps.searchsorted(bound, side="left"))


def _add_up(
    stretches: defaultdict[int, list[_Stretch]], parts: defaultdict[int, list[_Part]], writers: Mapping[int, str]
) -> None:
    """Makes parts of what was gathered, and forgets it."""
    for series_no, some in stretches.items():
        parts[series_no].append(_part(some, writers))
    stretches.clear()


def _part(stretches: list[_Stretch], writers: Mapping[int, str]) -> _Part:
    end = max(stretch.end for stretch in stretches)
    writer_id, sequence, chunk_no = max(one.last_origin(writers) for one in stretches if one.end == end)
    last_value = next(float(one.chunk.values[one.stop - 1]) for one in stretches if one.chunk.chunk_no == chunk_no)
    stretches.sort(key=lambda one: int(one.chunk.steps[0]))
    steps = np.concatenate([one.chunk.steps[: one.stop] for one in stretches])
    values = np.concatenate([one.chunk.values[: one.stop] for one in stretches])
    if bool((steps[1:] < steps[:-1]).any()):
        order = steps.argsort(kind="stable")
        steps, values = steps[order], values[order]
    return _Part(chunk_no, column_totals(steps, values, Last(*end, writer_id, sequence, last_value)))


def _merged(parts: Iterable[_Part]) -> Totals:
    totals = NOTHING
    # Of last points that tie the one of the later chunk is to win.
    for part in sorted(parts, key=lambda part: part.last_chunk):
        totals = totals.merged(part.totals)
    return totals
