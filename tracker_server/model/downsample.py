"""Fewer points of the same shape: no peak disappears."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker_server.model.points import Floats, Ints


def downsample(values: Floats, max_points: int) -> Ints | None:
    """Which of a series' points to keep, ascending, at most `max_points`; None: all.

    The points are split into buckets of equal counts. Each keeps its smallest and largest finite point and its first
    non-finite one; the first and the last point of the series are kept always. After the min/max decimation of
    plotting libraries. Raises ValueError below 4.
    """
    if max_points < 4:
        message = f"max_points is {max_points}; it must be at least 4"
        raise ValueError(message)
    total = len(values)
    if total <= max_points:
        return None
    finite = np.isfinite(values)
    all_finite = bool(finite.all())
    kept_per_bucket = 2 if all_finite else 3
    buckets = max(1, (max_points - 2) // kept_per_bucket)
    starts = np.arange(buckets, dtype=np.int64) * total // buckets
    keep = {0, total - 1}
    low = values if all_finite else np.where(finite, values, np.inf)
    high = values if all_finite else np.where(finite, values, -np.inf)
    for data, best in ((low, np.minimum.reduceat(low, starts)), (high, np.maximum.reduceat(high, starts))):
        keep.update(_first_of_each(data == np.repeat(best, np.diff(starts, append=total)), starts, finite))
    if not all_finite and max_points > 4:
        keep.update(_first_of_each(~finite, starts, ~finite))
    return np.array(sorted(keep), np.int64)


def _first_of_each(match: NDArray[np.bool_], starts: Ints, allowed: NDArray[np.bool_]) -> list[int]:
    hits = np.flatnonzero(match & allowed)
    bucket = np.searchsorted(starts, hits, side="right") - 1
    _, first = np.unique(bucket, return_index=True)
    return hits[first].tolist()  # type: ignore[no-any-return]  # a list of integers
