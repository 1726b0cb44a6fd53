"""Which points a newer attempt supersedes.

A cut `(attempt, from_step)` ends the life of every older attempt's points at `from_step` and beyond. The cuts of a
series are implicit: the smallest step that an attempt has in it. The cuts of a run are explicit (a rewind) and hold
for all of its series, present and future. Attempt 0 makes no implicit cut, and only explicit ones end its points.
"""

from __future__ import annotations

from typing import TypeAlias

Cuts: TypeAlias = tuple[tuple[int, int], ...]
"""Pairs (attempt, from_step), ascending by attempt, one per attempt."""


def live_until(attempt: int, series_cuts: Cuts, run_cuts: Cuts) -> int | None:
    """The first step at which points of this attempt are superseded; None when all of them are live."""
    steps = [step for newer, step in run_cuts if newer > attempt]
    if attempt > 0:
        steps += [step for newer, step in series_cuts if newer > attempt]
    return min(steps, default=None)


def lowered(cuts: Cuts, attempt: int, step: int) -> Cuts:
    """The cuts with this attempt's at `step` or below."""
    known = dict(cuts)
    known[attempt] = min(step, known.get(attempt, step))
    return tuple(sorted(known.items()))


def supersedes_older(cuts: Cuts, attempt: int) -> bool:
    """Whether an attempt older than this one, other than 0, has points in the series."""
    return any(older < attempt for older, _ in cuts)
