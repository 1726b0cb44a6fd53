"""Values without any pattern, the same for the same steps in every process: no compression shrinks them, and what was stored
can be held against what was sent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def noise(steps: NDArray[np.int64], column: int) -> NDArray[np.float64]:
    """A value from 0 to 1 for each step of a metric, every bit of its 53 at random. SplitMix64 of step and column."""
    state = (steps.astype(np.uint64) * np.uint64(2**20) + np.uint64(column + 1)) * _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
