"""The points of a series in order, whole or in pages: the live ones, or all of one attempt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, select

from tracker_server.model.cuts import Cuts, live_until
from tracker_server.model.merged_order import Origins, merged_order
from tracker_server.model.points import Floats, Ints
from tracker_server.store.chunk_reader import ChunkHead, StoredChunk, chunk_heads, read_chunks
from tracker_server.store.series_book import SeriesState
from tracker_server.store.tables import writers


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one series, ordered by step, time, writer, sequence."""

    steps: Ints
    times: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.steps)

    def part(self, start: int, stop: int) -> Points:
        """Points [start, stop)."""
        return Points(self.steps[start:stop], self.times[start:stop], self.values[start:stop])


NO_POINTS = Points(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))


@dataclass(frozen=True, slots=True)
class StepRange:
    """An inclusive range of steps; None: open."""

    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class SeriesReader:
    """Reads one series, within one transaction."""

    connection: Connection
    series: SeriesState
    run_cuts: Cuts
    attempt: int | None = None
    """Reads all points of this attempt, superseded or not, and no others."""
    _bounds: dict[int, int | None] = field(default_factory=dict)
    """What live_until says, by attempt: asked for each of thousands of chunks."""

    def all_points(self, steps: StepRange) -> Points:
        """Every live point in the range."""
        return self.points(self.heads(steps), steps)

    def count(self, steps: StepRange) -> int:
        """How many live points the range has; chunks that lie in it whole are not decoded."""
        total, partial = 0, []
        for head in self.heads(steps):
            low, high = self.bounds(head.attempt, steps)
            if low <= head.first_step and head.last_step <= high:
                total += head.count
            elif low <= high:
                partial.append(head)
        for chunk in self._read(partial):
            start, stop = self._live(chunk, steps)
            total += stop - start
        return total

    def page(self, steps: StepRange, skip: int, size: int) -> tuple[Points, bool]:
        """The first `size` live points of the range after skipping `skip`, and whether more follow.

        Reads chunks in the order of their first steps until enough points lie before the first step of the next one.
        """
        heads = self.heads(steps)
        needed = skip + size + 1
        loaded: list[StoredChunk] = []
        at = 0
        while at < len(heads):
            stop, gathered = at, 0
            while stop < len(heads) and (stop == at or gathered < needed):
                gathered += heads[stop].count
                stop += 1
            loaded.extend(self._read(heads[at:stop]))
            at = stop
            if at < len(heads):
                settled = StepRange(steps.low, _lower(heads[at].first_step - 1, steps.high))
                if sum(_length(self._live(chunk, settled)) for chunk in loaded) >= needed:
                    break
        points = self._merge(loaded, steps)
        return points.part(skip, skip + size), len(points) > skip + size

    def last_step(self) -> int | None:
        """The largest step of the live points; None when there are none."""
        found: int | None = None
        for head in sorted(self.heads(StepRange()), key=self._last_live, reverse=True):
            low, high = self.bounds(head.attempt, StepRange())
            if found is not None and self._last_live(head) <= found:
                break
            if low > high or head.first_step > high:
                continue
            if head.last_step <= high:
                step = head.last_step
            else:
                (chunk,) = self._read([head])
                step = int(chunk.steps[self._live(chunk, StepRange())[1] - 1])
            found = step if found is None else max(found, step)
        return found

    def heads(self, steps: StepRange) -> list[ChunkHead]:
        """The chunks that reach into the range, live or not, by first step; only those of the attempt, if there is one."""
        found = chunk_heads(self.connection, self.series.run_id, self.series.series_no, steps.low, steps.high)
        return found if self.attempt is None else [head for head in found if head.attempt == self.attempt]

    def points(self, heads: Sequence[ChunkHead], steps: StepRange) -> Points:
        """The live points of these chunks in the range."""
        return self._merge(list(self._read(heads)), steps)

    def bounds(self, attempt: int, steps: StepRange) -> tuple[int, int]:
        """Lowest and highest step of the range at which points of an attempt are live; none are when low > high."""
        bound = self._live_until(attempt)
        low = _MIN_STEP if steps.low is None else steps.low
        high = _MAX_STEP if steps.high is None else steps.high
        if bound is None:
            return low, high
        # Nothing is live below the smallest step there is.
        return (low, min(high, bound - 1)) if bound > _MIN_STEP else (0, -1)

    def _read(self, heads: Sequence[ChunkHead]) -> Iterable[StoredChunk]:
        return read_chunks(self.connection, self.series.run_id, self.series.series_no, heads)

    def _merge(self, loaded: list[StoredChunk], steps: StepRange) -> Points:
        loaded.sort(key=lambda chunk: (int(chunk.steps[0]), chunk.chunk_no))
        parts = [(chunk, *self._live(chunk, steps)) for chunk in loaded]
        parts = [part for part in parts if part[1] < part[2]]
        if not parts:
            return NO_POINTS
        all_steps = np.concatenate([chunk.steps[start:stop] for chunk, start, stop in parts])
        times = np.concatenate([chunk.times[start:stop] for chunk, start, stop in parts])
        values = np.concatenate([chunk.values[start:stop] for chunk, start, stop in parts])
        if len(parts) > 1:
            origins = [Origins(chunk.origins, start, stop) for chunk, start, stop in parts]
            order = merged_order(all_steps, times, origins, self._writer_ids)
            if order is not None:
                return Points(all_steps[order], times[order], values[order])
        return Points(all_steps, times, values)

    def _live(self, chunk: StoredChunk, steps: StepRange) -> tuple[int, int]:
        """Which part of a chunk is live and in the range; its steps ascend, so it is one stretch."""
        low, high = self.bounds(chunk.attempt, steps)
        if low > high:
            return 0, 0
        start = int(np.searchsorted(chunk.steps, low, side="left"))
        return start, int(np.searchsorted(chunk.steps, high, side="right"))

    def _last_live(self, head: ChunkHead) -> int:
        return min(head.last_step, self.bounds(head.attempt, StepRange())[1])

    def _live_until(self, attempt: int) -> int | None:
        if self.attempt is not None:
            return None
        if attempt not in self._bounds:
            self._bounds[attempt] = live_until(attempt, self.series.cuts, self.run_cuts)
        return self._bounds[attempt]

    def _writer_ids(self) -> dict[int, str]:
        return writer_ids(self.connection, self.series.run_id)


def writer_ids(connection: Connection, run_id: str) -> dict[int, str]:
    """The ids of a run's writers by their numbers."""
    query = select(writers.c.writer_no, writers.c.writer_id).where(writers.c.run_id == run_id)
    return {row.writer_no: row.writer_id for row in connection.execute(query)}


_MIN_STEP, _MAX_STEP = -(2**63), 2**63 - 1


def _lower(one: int, other: int | None) -> int:
    return one if other is None else min(one, other)


def _length(part: tuple[int, int]) -> int:
    return max(0, part[1] - part[0])
