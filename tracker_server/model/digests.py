"""What is known of a chunk without its points: enough where all of them fall into one bucket of a downsampled read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tracker_server.model.points import Floats


class Digest(NamedTuple):
    """Of the values of one chunk. Indexes count its points from 0; each is that of the first such point."""

    finite_count: int
    min_index: int | None
    """Of the smallest finite value; None when there is none."""
    max_index: int | None
    """Of the largest finite value; None when there is none."""
    non_finite_index: int | None
    """Of the first value that is not finite; None when all are."""


def digest_rows(values: Floats) -> list[Digest]:
    """The digest of each row of a matrix that has at least one column."""
    finite = np.isfinite(values)
    total = values.shape[1]
    counts = finite.sum(axis=1).tolist()
    if finite.all():
        low, high = values.argmin(axis=1).tolist(), values.argmax(axis=1).tolist()
        return [Digest(total, at_low, at_high, None) for at_low, at_high in zip(low, high, strict=True)]
    low = np.where(finite, values, np.inf).argmin(axis=1).tolist()
    high = np.where(finite, values, -np.inf).argmax(axis=1).tolist()
    other = (~finite).argmax(axis=1).tolist()
    return [
        Digest(
            count,
            at_low if count else None,
            at_high if count else None,
            at_other if count < total else None,
        )
        for count, at_low, at_high, at_other in zip(counts, low, high, other, strict=True)
    ]
