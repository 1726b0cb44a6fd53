"""A series downsampled: what model/downsample.py makes of all of its points, without reading all of them.

Chunks that overlap no other one stand for a stretch of positions. One that lies in a bucket whole contributes by its
digest; of one in several buckets the values are read; the points themselves only of those that are kept.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tracker_server.model.downsample import bucket_starts, kept, peaks
from tracker_server.model.points import Floats, Ints
from tracker_server.store.chunk_reader import ChunkHead, read_points_at, read_values
from tracker_server.store.point_reader import Points, SeriesReader, StepRange

_LOADED_POINTS = 262_144
"""Overlapping chunks with so many points between them are looked through at a time."""


@dataclass(frozen=True, slots=True)
class Downsampled:
    """Points of one series, and how many there would be."""

    points: Points
    total: int


def read_downsampled(reader: SeriesReader, steps: StepRange, max_points: int) -> Downsampled:
    """At most `max_points` of the live points in the range: every bucket's peaks, the first and the last."""
    stretches = list(_stretches(reader, steps))
    total = sum(len(stretch) for stretch in stretches)
    if total <= max_points:
        points = reader.all_points(steps)
        return Downsampled(points, len(points))
    offset = 0
    for stretch in stretches:
        stretch.offset = offset
        offset += len(stretch)
    finite = sum(stretch.finite_count for stretch in stretches)
    starts = bucket_starts(total, max_points, all_finite=finite == total)
    candidates = _Candidates(starts, starts.tolist())
    split: dict[int, _Stretch] = {}
    for stretch in stretches:
        if stretch.points is not None:
            candidates.look_at(stretch, stretch.points.values)
        elif candidates.is_split(stretch):
            split[stretch.head.chunk_no] = stretch
        else:
            candidates.add_digest(stretch)
    heads = [stretch.head for stretch in split.values()]
    series = reader.series
    for number, values in read_values(reader.connection, series.run_id, series.series_no, heads):
        candidates.look_at(split[number], values)
    return Downsampled(_points_at(reader, stretches, candidates.kept(total, max_points)), total)


@dataclass(slots=True)
class _Stretch:
    """Successive live points: one chunk that is not read, or points that were read."""

    head: ChunkHead
    """The first of its chunks."""
    points: Points | None = None
    offset: int = 0
    """How many points of the series come before."""

    def __len__(self) -> int:
        return self.head.count if self.points is None else len(self.points)

    @property
    def finite_count(self) -> int:
        """Of its values."""
        if self.points is not None:
            return int(np.isfinite(self.points.values).sum())
        return self.head.finite_count or 0


@dataclass(slots=True)
class _Candidates:
    """Positions that can matter, with their values."""

    starts: Ints
    """Of the buckets."""
    _start_list: list[int]
    """The same, for single look-ups."""
    _positions: list[Ints] = field(default_factory=list)
    _values: list[Floats] = field(default_factory=list)
    _digest_positions: list[int] = field(default_factory=list)
    _digest_values: list[float] = field(default_factory=list)

    def is_split(self, stretch: _Stretch) -> bool:
        """Whether its points fall into several buckets."""
        following = bisect_right(self._start_list, stretch.offset)
        return following < len(self._start_list) and self._start_list[following] < stretch.offset + len(stretch)

    def add_digest(self, stretch: _Stretch) -> None:
        """A chunk that lies in one bucket whole."""
        head = stretch.head
        for index, value in (
            (head.min_index, head.min_value),
            (head.max_index, head.max_value),
            (head.non_finite_index, math.nan),
        ):
            if index is not None and value is not None:
                self._digest_positions.append(stretch.offset + index)
                self._digest_values.append(value)

    def look_at(self, stretch: _Stretch, values: Floats) -> None:
        """A stretch whose values are known: the peaks of its part of each bucket."""
        low, high = np.searchsorted(self.starts, [stretch.offset, stretch.offset + len(values)])
        inner = self.starts[low:high] - stretch.offset
        cuts = inner if len(inner) and inner[0] == 0 else np.append(0, inner)
        found = peaks(values, cuts)
        self._positions.append(found + stretch.offset)
        self._values.append(values[found])

    def kept(self, total: int, max_points: int) -> Ints:
        """The positions that are kept."""
        positions = np.concatenate([*self._positions, np.array(self._digest_positions, np.int64)])
        values = np.concatenate([*self._values, np.array(self._digest_values, np.float64)])
        positions, first = np.unique(positions, return_index=True)
        return kept(positions, values[first], self.starts, total, max_points)


def _stretches(reader: SeriesReader, steps: StepRange) -> Iterator[_Stretch]:
    """The live points in the range as stretches, in order."""
    for group in _groups(reader, steps):
        head = group[0]
        low, high = reader.bounds(head.attempt, steps)
        if len(group) == 1 and head.digest is not None and low <= head.first_step and head.last_step <= high:
            yield _Stretch(head)
        else:
            points = reader.points(group, steps)
            if len(points):
                yield _Stretch(head, points)


def _groups(reader: SeriesReader, steps: StepRange) -> Iterator[list[ChunkHead]]:
    """Chunks that may interleave together, others apart; in order.

    Neighbours of which neither is known without its points go together too: they are read in one go.
    """
    group: list[ChunkHead] = []
    size, end = 0, (0, 0)
    for head in sorted(_live(reader, steps), key=lambda head: (head.first_step, head.first_ms, head.chunk_no)):
        apart = (head.first_step, head.first_ms) > end
        unknown = head.digest is None and group and group[-1].digest is None
        if group and apart and not (unknown and size <= _LOADED_POINTS):
            yield group
            group, size = [], 0
        # Where the last time is not known, points of the last step may have any.
        last = (head.last_step, _LATEST if head.last_ms is None else head.last_ms)
        end = max(end, last) if group else last
        group.append(head)
        size += head.count
    if group:
        yield group


def _live(reader: SeriesReader, steps: StepRange) -> list[ChunkHead]:
    heads = []
    for head in reader.heads(steps):
        low, high = reader.bounds(head.attempt, steps)
        if low <= high and head.first_step <= high and head.last_step >= low:
            heads.append(head)
    return heads


def _points_at(reader: SeriesReader, stretches: Sequence[_Stretch], positions: Ints) -> Points:
    """The points at these positions of the series, ascending."""
    offsets = np.array([stretch.offset for stretch in stretches], np.int64)
    within = np.searchsorted(offsets, positions, side="right") - 1
    found: list[tuple[int, int, float] | None] = []
    missing: list[tuple[ChunkHead, int]] = []
    for which, position in zip(within.tolist(), positions.tolist(), strict=True):
        stretch = stretches[which]
        at = position - stretch.offset
        if stretch.points is None:
            missing.append((stretch.head, at))
            found.append(None)
        else:
            points = stretch.points
            found.append((int(points.steps[at]), int(points.times[at]), float(points.values[at])))
    read = iter(read_points_at(reader.connection, reader.series.run_id, reader.series.series_no, missing))
    whole = [next(read) if point is None else point for point in found]
    step, time, value = zip(*whole, strict=True)
    return Points(np.array(step, np.int64), np.array(time, np.int64), np.array(value, np.float64))


_LATEST = 2**63 - 1
