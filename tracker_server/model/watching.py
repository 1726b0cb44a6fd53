"""What a watcher asks for, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class WatchQuery:
    """Which runs a watcher is told of, and what of them."""

    run_ids: tuple[str, ...]
    """Empty: all those of the experiment."""
    experiment_id: str
    """Empty: of all."""
    metrics: tuple[str, ...]
    """Empty: all, up to max_metrics."""
    max_metrics: int
    """0: none."""


class ChangePosition(NamedTuple):
    """The last run that was looked at among the changes of a partition, which come by revision, then by run."""

    partition: int
    revision: int
    run_id: str


class RunPosition(NamedTuple):
    """The last run that was looked at in a snapshot, whose runs come newest first."""

    created_ms: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a watcher has seen."""

    revisions: tuple[int, ...]
    """Of each partition: all changes up to this revision."""
    position: ChangePosition | None = None
    """Within one partition, beyond its revision. None: nothing."""
    snapshot: RunPosition | None = None
    """Within the snapshot that is being given, which is that of `revisions`. None: none is."""
    targets: tuple[int, ...] | None = None
    """The revisions that the present round goes up to: each partition has its turn in every round, however many changes
    another one has. None: the next read begins a round."""
    first: int = 0
    """The partition that a round begins with: the one after the last that gave something, so that none has to wait for
    ever."""
