"""Stored points: arrays per series, cut from frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tracker_server.model.digests import Digest, digest_rows
from tracker_server.model.origins import encode_slices
from tracker_server.model.points import Floats, Frame, Ints


@dataclass(frozen=True, slots=True)
class ChunkGroup:
    """Chunks of several series that share steps, times and origins: one row of `values` each."""

    run_id: str
    attempt: int
    names: tuple[str, ...]
    steps: Ints
    """Ascending."""
    times: Ints
    values: Floats
    """Shape (metrics, points)."""
    origins: bytes

    def extremes(self) -> tuple[list[float | None], list[float | None]]:
        """Smallest and largest finite value of each row."""
        finite = np.isfinite(self.values)
        low = np.where(finite, self.values, np.inf).min(axis=1).tolist()
        high = np.where(finite, self.values, -np.inf).max(axis=1).tolist()
        # An infinity can only be the stand-in of a row without finite values.
        return (
            [None if value == np.inf else value for value in low],
            [None if value == -np.inf else value for value in high],
        )

    def digests(self) -> list[Digest]:
        """What is known of each row without its points."""
        return digest_rows(self.values)


def cut_chunks(
    run_id: str, attempt: int, frame: Frame, writer_numbers: Mapping[str, int], max_points: int
) -> Iterator[ChunkGroup]:
    """The chunks of a frame, of at most `max_points` points each, and of about equal sizes: a small rest would have to be
    merged with others, from which larger chunks part it."""
    total = len(frame.steps)
    many = -(-total // max_points)
    slices = [(number * total // many, (number + 1) * total // many) for number in range(many)]
    origins = encode_slices(frame.sources, frame.order, writer_numbers, slices)
    for (start, stop), origin in zip(slices, origins, strict=True):
        yield ChunkGroup(
            run_id,
            attempt,
            frame.names,
            frame.steps[start:stop],
            frame.times[start:stop],
            frame.values[:, start:stop],
            origin,
        )
