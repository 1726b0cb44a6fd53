"""Doubles in columns: SQLite turns NaN into NULL and -0.0 into 0.0, so a kind stands beside the value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

FINITE: Final = 0
"""The value column holds it."""
_SPECIAL: Final = {1: math.nan, 2: math.inf, 3: -math.inf, 4: -0.0}


def split(value: float | None) -> tuple[float | None, int | None]:
    """Value column and kind column."""
    if value is None:
        return None, None
    if math.isnan(value):
        return None, 1
    if math.isinf(value):
        return None, 2 if value > 0 else 3
    if value == 0 and math.copysign(1, value) < 0:
        return 0.0, 4
    return value, FINITE


def split_all(values: Sequence[float | None]) -> tuple[list[float | None], list[int | None]]:
    """Value column and kind column of many."""
    # Nearly all are finite and not zero: the difference of such a value to itself is zero.
    pairs = [(value, FINITE) if value and value - value == 0.0 else split(value) for value in values]
    return [value for value, _ in pairs], [kind for _, kind in pairs]


def join(value: float | None, kind: int | None) -> float | None:
    """What `split` took apart."""
    if kind is None:
        return None
    return value if kind == FINITE else _SPECIAL[kind]
