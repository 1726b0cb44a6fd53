"""The series that a flush touches: totals, cuts, final values, and the chunks that are to be inserted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from tracker_server import limits
from tracker_server.model.chunks import cut_chunks
from tracker_server.model.cuts import Cuts, live_until, lowered, supersedes_older
from tracker_server.model.points import Frame
from tracker_server.model.run import RunState
from tracker_server.model.totals import NOTHING, Extreme, Last, Totals, frame_totals
from tracker_server.model.typed_json import decode_double
from tracker_server.store import kinds
from tracker_server.store.bulk import Bulk, Columns, NumberedChunks
from tracker_server.store.series_cache import RowChanged, SeriesCache
from tracker_server.store.tables import chunk_tail, chunks, series

LARGE_CHUNK_POINTS = 1_024
"""Chunks of so many points go straight into the table of large ones; smaller ones wait to be merged."""


@dataclass(slots=True)
class SeriesState:
    """One metric of one run."""

    run_id: str
    name: str
    series_no: int
    totals: Totals = NOTHING
    final: float | None = None
    cuts: Cuts = ()
    stale: bool = False
    chunk_count: int = 0
    changed: bool = False
    stored_count: int | None = None
    """The chunk_count that its row has in the database, as far as is known; None when it has no row."""

    def written(self) -> None:
        """Its row is what it is."""
        self.changed = False
        self.stored_count = self.chunk_count

    def touch(self) -> None:
        """Its row will be another one. Raises the number by which others see that, so one number names no chunk."""
        self.changed = True
        self.chunk_count += 1


@dataclass(slots=True)
class SeriesBook:
    """Series by run and name."""

    bulk: Bulk
    cache: SeriesCache
    _series: dict[str, dict[str, SeriesState]] = field(default_factory=dict)
    _chunks: list[NumberedChunks] = field(default_factory=list)

    def load(self, connection: Connection, run: RunState, names: Iterable[str]) -> None:
        """Reads the rows of these metrics of a run, where they are there and not yet read."""
        run_id = run.run_id
        known = self._known(run_id)
        # A run that has given no number to a series has none.
        missing = sorted(set(names) - known.keys()) if run.series_count else []
        for row in self.bulk.rows_by_names(connection, series, run_id, missing) if missing else ():
            known[row["name"]] = series_state(row)

    def load_anew(self, connection: Connection, run: RunState, names: Iterable[str]) -> None:
        """As load, but also rows that are known from an earlier flush and have not been changed by this one.

        For what may come to the conclusion that there is nothing to write: only a write finds out that somebody else has
        written the row since.
        """
        known = self._known(run.run_id)
        for name in names:
            if name in known and not known[name].changed:
                del known[name]
        self.load(connection, run, names)

    def rewind(self, connection: Connection, run: RunState) -> None:
        """Marks the series of a run in which an explicit cut may supersede points that were counted.

        In the database, whatever their number; what was known of the run's series is forgotten. To be called before
        anything else is loaded of the run.
        """
        self._known(run.run_id).clear()
        if not run.series_count or run.points_dropped:
            return
        connection.execute(
            series.update()
            .where(series.c.run_id == run.run_id, series.c.last_step >= run.rewound_from)
            .values(stale=True, chunk_count=series.c.chunk_count + 1)
        )

    def get(self, run_id: str, name: str) -> SeriesState | None:
        """A series that was loaded; None when it is not there yet."""
        return self._series[run_id].get(name)

    def cut(self, run: RunState, attempt: int, name: str, first_step: int) -> SeriesState:
        """Notes that points of an attempt from this step on are about to be added to a series, and returns it."""
        state = self._state(run, name)
        if attempt > 0:
            _cut(run, state, attempt, first_step)
        return state

    def add(self, run: RunState, attempt: int, frame: Frame, writer_numbers: Mapping[str, int]) -> None:
        """Adds the points of a frame."""
        first_step = int(frame.steps[0])
        states = [self.cut(run, attempt, name, first_step) for name in frame.names]
        live = [live_until(attempt, state.cuts, run.cuts) for state in states]
        for state, totals in zip(states, frame_totals(frame, live), strict=True):
            state.totals = state.totals.merged(totals)
            state.changed = True
        for group in cut_chunks(run.run_id, attempt, frame, writer_numbers, limits.MAX_CHUNK_POINTS):
            for state in states:
                state.chunk_count += 1
            self._chunks.append(NumberedChunks(group, [s.series_no for s in states], [s.chunk_count for s in states]))

    def set_finals(self, run: RunState, names: Iterable[str]) -> None:
        """Sets the final values of these metrics to those of the run's newest attempt. They must have been loaded."""
        finals = run.newest.final_metrics.values
        for name in names:
            final = decode_double(finals[name]) if name in finals else None
            state = self._series[run.run_id].get(name)
            if state is None and final is None:
                continue
            state = state or self._state(run, name)
            # A kind and a value: NaN is not equal to itself.
            if kinds.split(state.final) != kinds.split(final):
                state.final = final
                state.touch()

    def save(self, connection: Connection) -> None:
        """Writes what changed. Raises RowChanged when a row is not what it was taken for."""
        changed = [s for _, known in sorted(self._series.items()) for _, s in sorted(known.items()) if s.changed]
        new = [state for state in changed if state.stored_count is None]
        old = [state for state in changed if state.stored_count is not None]
        if new:
            self.bulk.upsert_columns(connection, series, series_columns(new))
        if old:
            expected = [state.stored_count for state in old]
            updated = self.bulk.update_columns(connection, series, series_columns(old), "chunk_count", expected)
            if updated != len(old):
                raise RowChanged
        for table, wanted in ((chunks, True), (chunk_tail, False)):
            batch = [c for c in self._chunks if (len(c.group.steps) >= LARGE_CHUNK_POINTS) is wanted]
            if batch:
                self.bulk.insert_chunks(connection, table, batch)

    def stale(self) -> set[str]:
        """Runs with series, as far as these are known here, whose totals must be made anew."""
        return {run_id for run_id, known in self._series.items() if any(state.stale for state in known.values())}

    def _known(self, run_id: str) -> dict[str, SeriesState]:
        if run_id not in self._series:
            self._series[run_id] = self.cache.take(run_id)
        return self._series[run_id]

    def _state(self, run: RunState, name: str) -> SeriesState:
        known = self._series[run.run_id]
        state = known.get(name)
        if state is None:
            run.series_count += 1
            run.counters_changed = True
            state = known[name] = SeriesState(run.run_id, name, run.series_count)
        return state


def _cut(run: RunState, state: SeriesState, attempt: int, first_step: int) -> None:
    before = dict(state.cuts).get(attempt)
    if before is not None and before <= first_step:
        return
    state.cuts = lowered(state.cuts, attempt, first_step)
    last = state.totals.last
    counted_beyond = supersedes_older(state.cuts, attempt) and last is not None and last.step >= first_step
    if counted_beyond and not run.points_dropped:
        # Points that were counted may be superseded now.
        state.stale = True


def series_state(row: Mapping[str, Any]) -> SeriesState:
    """From a row of the table."""
    signs = row["zero_signs"]
    totals = Totals(
        count=row["count"],
        finite_count=row["finite_count"],
        last=None
        if row["last_kind"] is None
        else Last(
            row["last_step"],
            row["last_ms"],
            row["last_writer"],
            row["last_sequence"],
            kinds.join(row["last_value"], row["last_kind"]),  # type: ignore[arg-type]  # a kind, so a value
        ),
        min=_extreme(row["min_value"], row["min_step"], negative_zero=bool(signs & 1)),
        max=_extreme(row["max_value"], row["max_step"], negative_zero=bool(signs & 2)),
        sum=row["sum"],
        huge_sum=row["huge_sum"],
    )
    return SeriesState(
        run_id=row["run_id"],
        name=row["name"],
        series_no=row["series_no"],
        totals=totals,
        final=kinds.join(row["final_value"], row["final_kind"]),
        cuts=tuple((attempt, step) for attempt, step in row["cuts"] or ()),
        stale=row["stale"],
        chunk_count=row["chunk_count"],
        stored_count=row["chunk_count"],
    )


def series_columns(states: Sequence[SeriesState]) -> Columns:
    """Rows of the table, by column: of a thousand series so a third of the time is saved."""
    totals = [state.totals for state in states]
    lasts = [one.last or _NO_LAST for one in totals]
    lows, highs = [one.min or _NO_EXTREME for one in totals], [one.max or _NO_EXTREME for one in totals]
    last_values, last_kinds = kinds.split_all([last[4] for last in lasts])
    final_values, final_kinds = kinds.split_all([state.final for state in states])
    return {
        "run_id": [state.run_id for state in states],
        "name": [state.name for state in states],
        "series_no": [state.series_no for state in states],
        "count": [one.count for one in totals],
        "finite_count": [one.finite_count for one in totals],
        "last_step": [last[0] for last in lasts],
        "last_ms": [last[1] for last in lasts],
        "last_writer": [last[2] for last in lasts],
        "last_sequence": [last[3] for last in lasts],
        "last_value": last_values,
        "last_kind": last_kinds,
        "min_value": [low[0] for low in lows],
        "min_step": [low[1] for low in lows],
        "max_value": [high[0] for high in highs],
        "max_step": [high[1] for high in highs],
        "sum": [one.sum for one in totals],
        "huge_sum": [one.huge_sum for one in totals],
        "final_value": final_values,
        "final_kind": final_kinds,
        "zero_signs": [
            _is_negative_zero(low[0]) + 2 * _is_negative_zero(high[0]) for low, high in zip(lows, highs, strict=True)
        ],
        "cuts": [[list(cut) for cut in state.cuts] or None for state in states],
        "stale": [state.stale for state in states],
        "chunk_count": [state.chunk_count for state in states],
    }


_NO_LAST = (None, None, None, None, None)
_NO_EXTREME = (None, None)


def _is_negative_zero(value: float | None) -> bool:
    return value == 0.0 and math.copysign(1.0, value) < 0


def _extreme(value: float | None, step: int | None, *, negative_zero: bool) -> Extreme | None:
    if value is None or step is None:
        return None
    return Extreme(-0.0 if negative_zero else value, step)
