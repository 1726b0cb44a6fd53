"""Python's search for cyclic garbage, set for processes that hold many small objects for a moment."""

from __future__ import annotations

import gc

_THRESHOLDS = (200_000, 20, 100)
"""New containers, and rounds, between two searches. A flush of a thousand metrics makes tens of thousands of them, none in
a cycle: with the default of 700 the search took a third of the flush's time."""


def search_seldom() -> None:
    """What is loaded so far is left out of every later search, and searches are few."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
