"""In which order the points of several chunks stand: step, time, writer, sequence, and then as they stood."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tracker_server.model.origins import decode_origins
from tracker_server.model.points import Ints, sort_order


class Origins(NamedTuple):
    """Where the points [start, stop) of a chunk came from."""

    encoded: bytes
    """Of the whole chunk; see model/origins.py."""
    start: int
    stop: int


def merged_order(
    steps: Ints, times: Ints, origins: Sequence[Origins], writer_ids: Callable[[], Mapping[int, str]]
) -> Ints | None:
    """The order of the points of several chunks, one after the other in `steps` and `times`; None: nothing moves.

    Points of one write that tie stay as they stand. `writer_ids` gives the id of each writer number; it is called only
    when points tie.
    """
    order = sort_order(steps, times)
    sorted_steps, sorted_times = (steps, times) if order is None else (steps[order], times[order])
    tied = (sorted_steps[1:] == sorted_steps[:-1]) & (sorted_times[1:] == sorted_times[:-1])
    if not tied.any():
        return order
    # Writer numbers were given in order of arrival, ids decide.
    ids = writer_ids()
    ranks = np.zeros(max(ids, default=0) + 1, np.int64)
    for rank, number in enumerate(sorted(ids, key=lambda number: ids[number])):
        ranks[number] = rank
    numbers, sequences = decoded(origins)
    return np.lexsort((sequences, ranks[numbers], times, steps)).astype(np.int64, copy=False)


def decoded(origins: Sequence[Origins]) -> tuple[Ints, Ints]:
    """Writer number and sequence of each point, chunk after chunk."""
    parts = [(decode_origins(one.encoded), one.start, one.stop) for one in origins]
    return (
        np.concatenate([numbers[start:stop] for (numbers, _), start, stop in parts]),
        np.concatenate([sequences[start:stop] for (_, sequences), start, stop in parts]),
    )
