"""Steps and times as 32-bit offsets from the first, or whole where they lie too far apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker_server.model.points import Ints

_LIMIT = 2**31 - 1


def narrow(numbers: Ints) -> tuple[int, NDArray[np.int32] | None, Ints | None]:
    """The first number, and either the offsets from it or, where one needs more than 32 bits, the numbers themselves."""
    first = int(numbers[0])
    # In Python's integers: the distance of two 64-bit numbers may need 65 bits.
    if int(numbers.max()) - first <= _LIMIT and first - int(numbers.min()) <= _LIMIT:
        return first, (numbers - first).astype(np.int32), None
    return first, None, numbers


def widen(first: int, offsets: NDArray[np.int32] | None, whole: Ints | None) -> Ints:
    """What `narrow` made small."""
    if offsets is not None:
        return offsets.astype(np.int64) + first
    assert whole is not None
    return whole
