"""Run states as numbers, the same as in the contract and in the database."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """As tracker.v1.RunStatus."""

    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    CANCELLED = 4
    PREEMPTED = 5
    LOST = 6


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.PREEMPTED})
"""What RunCompleted may say."""
DEFAULT_EXPERIMENT = "default"
"""Where a run is until a write names an experiment."""
