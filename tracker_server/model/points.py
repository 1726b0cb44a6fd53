"""Points in columns: from the blocks of many writes to one sorted frame per set of metrics. No Python per point."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Block:
    """Points of one write: `values[i, j]` is metric `names[i]` at `steps[j]`, `times[j]`."""

    names: tuple[str, ...]
    steps: Ints
    times: Ints
    values: Floats


class Source(NamedTuple):
    """A stretch of points that came with one write."""

    writer_id: str
    sequence: int
    points: int


@dataclass(frozen=True, slots=True)
class Frame:
    """Points of one run and attempt, of metrics logged together, in order: step, time, writer, sequence, position."""

    names: tuple[str, ...]
    steps: Ints
    times: Ints
    values: Floats
    """Shape (metrics, points)."""
    sources: tuple[Source, ...]
    """In the order before sorting."""
    order: Ints | None
    """Where each point stood before sorting; None: nothing moved."""

    @property
    def last_source(self) -> Source:
        """Where the last point came from."""
        return self.source_of(len(self.steps) - 1)

    def source_of(self, index: int) -> Source:
        """Where the point at this index came from."""
        position = index if self.order is None else int(self.order[index])
        for source in self.sources:
            if position < source.points:
                return source
            position -= source.points
        message = "sources are shorter than the points"
        raise AssertionError(message)

    def rows(self, keep: Sequence[int]) -> Frame:
        """The same frame with only these metrics."""
        names = tuple(self.names[i] for i in keep)
        return Frame(names, self.steps, self.times, self.values[list(keep)], self.sources, self.order)


class PlacedBlock(NamedTuple):
    """A block and the write it came with."""

    writer_id: str
    sequence: int
    block: Block


def build_frames(blocks: Iterable[PlacedBlock]) -> list[Frame]:
    """Frames of the blocks of one run and attempt. Each metric is in exactly one of them."""
    # By writer and sequence, so that a stable sort by step and time leaves ties in that order. Sorting is stable too:
    # blocks of one write stay in the order of the request.
    ordered = sorted(blocks, key=lambda placed: (placed.writer_id, placed.sequence))
    groups: defaultdict[tuple[str, ...], list[PlacedBlock]] = defaultdict(list)
    for placed in ordered:
        groups[placed.block.names].append(placed)
    if len(groups) == 1:
        return [_frame(names, group) for names, group in groups.items()]
    return _disjoint(groups, ordered)


def _disjoint(groups: dict[tuple[str, ...], list[PlacedBlock]], ordered: list[PlacedBlock]) -> list[Frame]:
    seen: set[str] = set()
    shared: set[str] = set()
    for names in groups:
        shared.update(seen.intersection(names))
        seen.update(names)
    frames = []
    for names, group in groups.items():
        keep = [i for i, name in enumerate(names) if name not in shared]
        if keep:
            frame = _frame(names, group)
            frames.append(frame if len(keep) == len(names) else frame.rows(keep))
    for name in sorted(shared):
        single = [
            PlacedBlock(writer, sequence, Block((name,), b.steps, b.times, b.values[[b.names.index(name)]]))
            for writer, sequence, b in ordered
            if name in b.names
        ]
        frames.append(_frame((name,), single))
    return frames


def _frame(names: tuple[str, ...], group: list[PlacedBlock]) -> Frame:
    blocks = [placed.block for placed in group]
    sources = tuple(Source(placed.writer_id, placed.sequence, len(placed.block.steps)) for placed in group)
    if len(blocks) == 1:
        steps, times, values = blocks[0].steps, blocks[0].times, blocks[0].values
    else:
        steps = np.concatenate([block.steps for block in blocks])
        times = np.concatenate([block.times for block in blocks])
        values = np.concatenate([block.values for block in blocks], axis=1)
    order = sort_order(steps, times)
    if order is not None:
        steps, times, values = steps[order], times[order], values[:, order]
    return Frame(names, steps, times, values, sources, order)


def sort_order(steps: Ints, times: Ints) -> Ints | None:
    """The stable order by step, then time; None when the points are in it already."""
    if len(steps) < 2:
        return None
    later = steps[1:] > steps[:-1]
    if later.all():
        return None
    if (later | ((steps[1:] == steps[:-1]) & (times[1:] >= times[:-1]))).all():
        return None
    return np.lexsort((times, steps)).astype(np.int64, copy=False)
