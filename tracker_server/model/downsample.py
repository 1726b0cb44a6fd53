"""Fewer points of the same shape: no peak disappears.

The points are split into buckets of equal counts. Each keeps its smallest and largest finite point and its first
non-finite one; the first and the last point of the series are kept always. After the min/max decimation of plotting
libraries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker_server.model.points import Floats, Ints

_ALL_BUT_NON_FINITE = 4
"""With room for so few points, the first, the last, the smallest and the largest are kept, and no other."""


def downsample(values: Floats, max_points: int) -> Ints | None:
    """Which of a series' points to keep, ascending, at most `max_points`; None: all. Raises ValueError below 4."""
    total = len(values)
    starts = bucket_starts(total, max_points, all_finite=bool(np.isfinite(values).all()))
    if total <= max_points:
        return None
    return kept(np.arange(total, dtype=np.int64), values, starts, total, max_points)


def bucket_starts(total: int, max_points: int, *, all_finite: bool) -> Ints:
    """Where each bucket of a series of `total` points begins, in a read of at most `max_points`. Raises ValueError below 4."""
    if max_points < _ALL_BUT_NON_FINITE:
        message = f"max_points is {max_points}; it must be at least {_ALL_BUT_NON_FINITE}"
        raise ValueError(message)
    kept_per_bucket = 2 if all_finite else 3
    buckets = max(1, (max_points - 2) // kept_per_bucket)
    return np.arange(buckets, dtype=np.int64) * total // buckets


def kept(positions: Ints, values: Floats, starts: Ints, total: int, max_points: int) -> Ints:
    """Which positions of a series of `total` points to keep, from those that can matter: ascending `positions` with their
    `values`, among them the peaks of every stretch of a bucket."""
    non_finite = max_points > _ALL_BUT_NON_FINITE
    chosen = positions[peaks(values, np.searchsorted(positions, starts), non_finite=non_finite)]
    both: Ints = np.union1d(chosen, np.array([0, total - 1], np.int64))
    return both


def peaks(values: Floats, starts: Ints, *, non_finite: bool = True) -> Ints:
    """The first smallest, the first largest and, if `non_finite`, the first non-finite point of each stretch, ascending.

    Stretches begin at `starts`, ascending, the first at 0; none is empty.
    """
    finite = np.isfinite(values)
    all_finite = bool(finite.all())
    low = values if all_finite else np.where(finite, values, np.inf)
    high = values if all_finite else np.where(finite, values, -np.inf)
    sizes = np.diff(starts, append=len(values))
    found = [
        _first_of_each((data == np.repeat(best, sizes)) & finite, starts)
        for data, best in ((low, np.minimum.reduceat(low, starts)), (high, np.maximum.reduceat(high, starts)))
    ]
    if non_finite and not all_finite:
        found.append(_first_of_each(~finite, starts))
    together: Ints = np.unique(np.concatenate(found))
    return together


def _first_of_each(match: NDArray[np.bool_], starts: Ints) -> Ints:
    hits = np.flatnonzero(match)
    stretch = np.searchsorted(starts, hits, side="right")
    first = np.append(True, stretch[1:] != stretch[:-1])[: len(hits)]
    firsts: Ints = hits[first]
    return firsts
