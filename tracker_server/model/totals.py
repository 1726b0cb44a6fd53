"""What a series amounts to: totals of a frame in one go over all its metrics, and how two totals become one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tracker_server.model.points import Floats, Frame, Ints

HUGE = 1e290
"""Values beyond are summed apart and scaled, so that `1e308 + 1e308` stays a number."""
HUGE_SCALE = 2.0**-128
"""By which values beyond HUGE are scaled in `huge_sum`: exact, being a power of two."""


class Last(NamedTuple):
    """The last point of a series: the highest by step, time, writer, sequence."""

    step: int
    time_ms: int
    writer_id: str
    sequence: int
    value: float

    @property
    def order(self) -> tuple[int, int, str, int]:
        """What decides which of two is later."""
        return self[:4]


class Extreme(NamedTuple):
    """A smallest or largest value and the smallest step that has it."""

    value: float
    step: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of live points."""

    count: int = 0
    finite_count: int = 0
    last: Last | None = None
    min: Extreme | None = None
    max: Extreme | None = None
    sum: float = 0.0
    """Of the finite values up to HUGE."""
    huge_sum: float = 0.0
    """Of the finite values beyond HUGE, each times HUGE_SCALE."""

    @property
    def mean(self) -> float | None:
        """Mean of the finite values; None when there are none."""
        return mean_of(self.sum, self.huge_sum, self.finite_count)

    def merged(self, other: Totals) -> Totals:
        """Totals of both. Commutes, but for the rounding of the sums.

        Last points of one write tie; then `other` has the last one.
        """
        return Totals(
            self.count + other.count,
            self.finite_count + other.finite_count,
            _later(self.last, other.last),
            _smaller(self.min, other.min),
            _larger(self.max, other.max),
            self.sum + other.sum,
            self.huge_sum + other.huge_sum,
        )


NOTHING = Totals()


def mean_of(total: float, huge: float, count: int) -> float | None:
    """The mean of `count` values whose sums are given; None for no values."""
    if count == 0:
        return None
    return total / count + huge / count / HUGE_SCALE


def frame_totals(frame: Frame, live: list[int | None] | None = None) -> list[Totals]:
    """Totals of each metric of a frame. `live[i]`: the step from which metric i's points are superseded."""
    if live is None or all(bound is None or bound > int(frame.steps[-1]) for bound in live):
        return _totals(frame, frame.values, len(frame.steps))
    totals = []
    for row, bound in enumerate(live):
        # Sorted by step, so the live points come first.
        stop = len(frame.steps) if bound is None else _count_below(frame.steps, bound)
        one = _totals(frame, frame.values[row : row + 1], stop)
        totals.append(one[0])
    return totals


def column_totals(steps: Ints, values: Floats, last: Last) -> Totals:
    """Totals of some of one series' points, by step, of which `last` is the last one."""
    return _row_totals(steps, values[np.newaxis], [last])[0]


def _count_below(steps: Ints, bound: int) -> int:
    if bound > np.iinfo(np.int64).max:
        return len(steps)
    return int(np.searchsorted(steps, bound, side="left"))


def _totals(frame: Frame, values: Floats, stop: int) -> list[Totals]:
    if stop == 0:
        return [NOTHING] * len(values)
    whole = stop == len(frame.steps)
    steps, values = (frame.steps, values) if whole else (frame.steps[:stop], values[:, :stop])
    source = frame.last_source if whole else frame.source_of(stop - 1)
    step, time = int(steps[-1]), int(frame.times[stop - 1])
    lasts = [Last(step, time, source.writer_id, source.sequence, value) for value in values[:, -1].tolist()]
    return _row_totals(steps, values, lasts)


def _row_totals(steps: Ints, values: Floats, lasts: list[Last]) -> list[Totals]:
    """Totals of each row."""
    count = len(steps)
    finite = np.isfinite(values)
    all_finite = bool(finite.all())
    plain = values if all_finite else np.where(finite, values, 0.0)
    huge = np.abs(plain) > HUGE
    if huge.any():
        huge_sums = np.where(huge, plain * HUGE_SCALE, 0.0).sum(axis=1)
        sums = np.where(huge, 0.0, plain).sum(axis=1)
    else:
        huge_sums = np.zeros(len(values))
        sums = plain.sum(axis=1)
    low = values if all_finite else np.where(finite, values, np.inf)
    high = values if all_finite else np.where(finite, values, -np.inf)
    low_at, high_at = low.argmin(axis=1), high.argmax(axis=1)
    # -0.0 counts as smaller than 0.0, which argmin does not see.
    negative_zero = (values == 0.0) & np.signbit(values)
    for row in np.flatnonzero(negative_zero.any(axis=1)).tolist():
        if low[row, low_at[row]] == 0.0:
            low_at[row] = negative_zero[row].argmax()
        positive_zero = (values[row] == 0.0) & ~negative_zero[row]
        if high[row, high_at[row]] == 0.0 and positive_zero.any():
            high_at[row] = positive_zero.argmax()
    rows = np.arange(len(values))
    finite_counts = [count] * len(values) if all_finite else finite.sum(axis=1).tolist()
    columns = zip(
        lasts,
        finite_counts,
        values[rows, low_at].tolist(),
        steps[low_at].tolist(),
        values[rows, high_at].tolist(),
        steps[high_at].tolist(),
        sums.tolist(),
        huge_sums.tolist(),
        strict=True,
    )
    return [
        Totals(
            count,
            finite_count,
            last,
            Extreme(low_value, low_step) if finite_count else None,
            Extreme(high_value, high_step) if finite_count else None,
            total,
            huge_total,
        )
        for last, finite_count, low_value, low_step, high_value, high_step, total, huge_total in columns
    ]


def _later(one: Last | None, other: Last | None) -> Last | None:
    if one is None or other is None:
        return one or other
    return one if one[:4] > other[:4] else other


def _smaller(one: Extreme | None, other: Extreme | None) -> Extreme | None:
    if one is None or other is None:
        return one or other
    if one[0] != other[0]:
        return one if one[0] < other[0] else other
    if one[0] == 0.0 and _negative(one[0]) != _negative(other[0]):
        return one if _negative(one[0]) else other
    return one if one[1] <= other[1] else other


def _larger(one: Extreme | None, other: Extreme | None) -> Extreme | None:
    if one is None or other is None:
        return one or other
    if one[0] != other[0]:
        return one if one[0] > other[0] else other
    if one[0] == 0.0 and _negative(one[0]) != _negative(other[0]):
        return other if _negative(one[0]) else one
    return one if one[1] <= other[1] else other


def _negative(value: float) -> bool:
    return math.copysign(1.0, value) < 0
