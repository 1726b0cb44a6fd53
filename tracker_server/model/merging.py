"""Several chunks of one series and attempt become few: their points in order, and where to cut them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tracker_server.model.chunks import ChunkGroup
from tracker_server.model.merged_order import Origins, decoded, merged_order
from tracker_server.model.origins import encode_origins
from tracker_server.model.points import Floats, Ints


class Part(Protocol):
    """A chunk to be merged, its points in order."""

    @property
    def steps(self) -> Ints: ...  # as Merged has them
    @property
    def times(self) -> Ints: ...
    @property
    def values(self) -> Floats: ...
    @property
    def origins(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Merged:
    """Points of one series and attempt, ordered by step, time, writer, sequence."""

    steps: Ints
    times: Ints
    values: Floats
    writers: Ints
    """Numbers."""
    sequences: Ints

    def chunk(self, run_id: str, attempt: int, start: int, stop: int) -> ChunkGroup:
        """Points [start, stop) as a chunk, of a series without a name."""
        part = slice(start, stop)
        origins = encode_origins(self.writers[part], self.sequences[part])
        return ChunkGroup(
            run_id, attempt, ("",), self.steps[part], self.times[part], self.values[np.newaxis, part], origins
        )


def merge_parts(parts: Sequence[Part], writer_ids: Callable[[], Mapping[int, str]]) -> Merged:
    """The points of chunks, given by first step. `writer_ids`: the id of each writer number, asked for when points tie."""
    steps = np.concatenate([part.steps for part in parts])
    times = np.concatenate([part.times for part in parts])
    values = np.concatenate([part.values for part in parts])
    origins = [Origins(part.origins, 0, len(part.steps)) for part in parts]
    order = merged_order(steps, times, origins, writer_ids) if len(parts) > 1 else None
    writers, sequences = decoded(origins)
    if order is None:
        return Merged(steps, times, values, writers, sequences)
    return Merged(steps[order], times[order], values[order], writers[order], sequences[order])


def cut_merged(merged: Merged, max_points: int, max_chunks: int) -> tuple[list[tuple[int, int]], bool]:
    """Where each chunk begins and ends, and whether points of equal step and time are all in one chunk.

    They are kept together, so that the last chunk may be merged again with what comes later: points of one write that
    tie stand in the order of their chunks. Where that would need chunks larger than `max_points`, or more of them than
    `max_chunks`, they are not.
    """
    total = len(merged.steps)
    fresh = (merged.steps[1:] != merged.steps[:-1]) | (merged.times[1:] != merged.times[:-1])
    # Where a chunk may end.
    ends = np.append(np.flatnonzero(fresh) + 1, total)
    cuts: list[tuple[int, int]] = []
    start = 0
    while start < total:
        stop = int(ends[np.searchsorted(ends, start + max_points, side="right") - 1])
        if stop <= start or len(cuts) == max_chunks:
            starts = range(0, total, max_points)
            return [(at, min(at + max_points, total)) for at in starts], False
        cuts.append((start, stop))
        start = stop
    return cuts, True
