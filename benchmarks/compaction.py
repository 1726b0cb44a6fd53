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


@dataclass(frozen=True, slots=True)
class Beside:
    """All turns."""

    rates: Mapping[Shape, OnOff]
    merged: int
    """Chunks merged while points were ingested, compaction being on."""


@dataclass(frozen=True, slots=True)
class _Turn:
    rates: Mapping[Shape, float]
    merged: int


def measure(form: Form, turns: int, left: int, points: Mapping[Shape, int]) -> Beside:
    """So many turns without compaction, each between two with it.

    left: points of the run of each turn whose small chunks are to be merged. Raises AssertionError when points are missing,
    or when chunks are merged with compaction off, or none with compaction on.
    """
    on, off = [_turn(form, left, points, merges=True)], []
    for _ in range(turns):
        with other_consumer(form, compaction="false"):
            off.append(_turn(form, left, points, merges=False))
        on.append(_turn(form, left, points, merges=True))
    merged, beside_off = (sum(turn.merged for turn in some) for some in (on, off))
    assert merged, "no chunk was merged with compaction on"
    assert not beside_off, f"{beside_off} chunks were merged with compaction off"
    rates = {shape: OnOff(*([turn.rates[shape] for turn in some] for some in (on, off))) for shape in points}
    return Beside(rates, merged)


def _turn(form: Form, left: int, points: Mapping[Shape, int], *, merges: bool) -> _Turn:
    run_id = f"bench-left-{uuid.uuid4().hex[:8]}"
    before = chunks.merged_away(form)
    ingest.fill(form, run_id, *_LEFT, left)
    ingest.complete(form, run_id)
    if merges:
        began = wait_until(lambda: chunks.merged_away(form) > before, _BEGIN_SECONDS, interval=0.1)
        assert began, f"no chunk is merged within {_BEGIN_SECONDS:.0f} s"
        before = chunks.merged_away(form)
    rates = {
        (columns, steps): ingest.measure(form, columns, steps, shape_points).readable
        for (columns, steps), shape_points in points.items()
    }
    return _Turn(rates, chunks.merged_away(form) - before)
