"""What merging small chunks takes from bulk ingest: the same with compaction on and off, by turns, several times.

Each turn has a consumer that was just started, and before it a run is logged, and ended, that leaves thousands of small
chunks: with compaction on there is something to be merged all the time.
"""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks import chunks, ingest
from benchmarks.forms import Form, other_consumer
from deploy.servers.processes import wait_until

Shape: TypeAlias = tuple[int, int]
"""Metrics, and steps a request."""
_LEFT: Shape = (1_000, 1)
"""Of the run that leaves small chunks."""
_BEGIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class OnOff:
    """Points a second of one shape, until readable, turn by turn."""

    on: Sequence[float]
    off: Sequence[float]

    @property
    def medians(self) -> tuple[float, float]:
        """On, and off."""
        return statistics.median(self.on), statistics.median(self.off)

    @property
    def spread(self) -> str:
        """The least and the most of each, in thousands."""
        on, off = (f"{min(some) / 1000:,.0f} to {max(some) / 1000:,.0f}" for some in (self.on, self.off))
        return f"{len(self.on)} times on, {on} k, {len(self.off)} times off, {off} k"


def measure(form: Form, turns: int, left: int, points: Mapping[Shape, int]) -> Mapping[Shape, OnOff]:
    """So many turns without compaction, each between two with it.

    left: points of the run whose small chunks are to be merged. Raises AssertionError when points are missing, or when
    chunks are merged with compaction off, or none with compaction on.
    """
    on, off = [_turn(form, left, points, merges=True)], []
    for _ in range(turns):
        with other_consumer(form, compaction="false"):
            off.append(_turn(form, left, points, merges=False))
        on.append(_turn(form, left, points, merges=True))
    return {shape: OnOff([turn[shape] for turn in on], [turn[shape] for turn in off]) for shape in points}


def _turn(form: Form, left: int, points: Mapping[Shape, int], *, merges: bool) -> Mapping[Shape, float]:
    run_id = f"bench-left-{uuid.uuid4().hex[:8]}"
    ingest.fill(form, run_id, *_LEFT, left)
    before = chunks.small_chunks(form, run_id)
    ingest.complete(form, run_id)
    if merges:
        began = wait_until(lambda: chunks.small_chunks(form, run_id) < before, _BEGIN_SECONDS, interval=0.02)
        assert began, f"of {before} small chunks none is merged"
    rates = {}
    for columns, steps in points:
        there = chunks.small_chunks(form, run_id)
        rates[columns, steps] = ingest.measure(form, columns, steps, points[columns, steps]).readable
        merged = there - chunks.small_chunks(form, run_id)
        assert (merged > 0) is merges, f"{merged} of {there} small chunks were merged meanwhile"
    return rates
