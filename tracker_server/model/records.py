"""What reads return: rows of the database as frozen data. Times are milliseconds since 1970-01-01 UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tracker_server.model.points import Floats, Ints
from tracker_server.model.ranges import EMPTY, Ranges
from tracker_server.model.totals import Totals
from tracker_server.model.typed_json import Json


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run."""

    run_id: str
    experiment_id: str
    experiment_conflicts: list[str]
    name: str
    notes: str
    config: Mapping[str, Json]
    tags: list[str]
    metadata: Mapping[str, str]
    artifacts: Mapping[str, str]
    stop_requested: bool
    status: int
    attempt: int
    started_ms: int
    ended_ms: int | None
    final_metrics: Mapping[str, Json]
    created_ms: int
    last_seen_ms: int
    stop_ms: int | None
    heard_ms: int | None
    stop_reason: str
    parent_run_id: str
    run_group: str
    reason: str
    lost_ms: int | None
    deleted_ms: int | None
    points_dropped_ms: int | None

    @property
    def is_to_stop(self) -> bool:
        """Whether its newest attempt is to stop: one that was heard of before the stop was asked for."""
        asked, heard = self.stop_ms, self.heard_ms
        return self.stop_requested and (asked is None or heard is None or asked >= heard)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a run."""

    attempt: int
    status: int
    started_ms: int
    ended_ms: int | None
    last_seen_ms: int
    reason: str
    lost_ms: int | None
    rewound_from_step: int | None


@dataclass(frozen=True, slots=True)
class MetricRecord:
    """One metric of a run."""

    name: str
    totals: Totals
    final: float | None


@dataclass(frozen=True, slots=True)
class WriterRecord:
    """What is known of a writer."""

    writer_id: str
    applied: Ranges
    dead: Ranges
    final_sequence: int | None
    dropped_points: int
    open_ended: bool = False
    """Nobody says what there is to come of it, so there are no holes: a server's own, or of changes from outside alone."""

    @property
    def last_sequence(self) -> int:
        """The highest sequence that is known of: said by the writer, applied, or refused."""
        return max(self.final_sequence or 0, self.applied.highest, self.dead.highest)

    @property
    def closed(self) -> bool:
        """Whether it said what its last sequence was, and none beyond has come since."""
        return self.final_sequence is not None and self.final_sequence >= self.last_sequence

    @property
    def missing(self) -> Ranges:
        """Sequences that have not arrived, up to the last one that is known of."""
        if self.open_ended:
            return EMPTY
        return self.applied.union(self.dead).missing(self.last_sequence)

    @property
    def is_done(self) -> bool:
        """Whether everything that it sent is stored."""
        return self.closed and not self.dead.pairs and not self.missing.pairs


@dataclass(frozen=True, slots=True)
class RunDetails:
    """A run with everything but its points."""

    run: RunRecord
    attempts: list[AttemptRecord]
    metrics: list[MetricRecord]
    """Sorted by name, one page."""
    more_metrics: bool
    writers: list[WriterRecord]
    """Those that sent an id of their own, and servers' own that have refused writes; sorted by id."""
    complete: bool
    """Whether every writer, listed or not, is done; where none sent an id of its own, whether the run has ended."""
    read_ms: int


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """An experiment."""

    experiment_id: str
    name: str
    notes: str
    tags: list[str]
    metadata: Mapping[str, str]
    created_ms: int
    metric_definitions: Mapping[str, Json]
    retention: Mapping[str, int] | None
    deleted_ms: int | None
    run_count: int


@dataclass(frozen=True, slots=True)
class AcrossRuns:
    """One metric over the runs of an experiment."""

    name: str
    run_count: int
    non_finite_run_count: int
    min: tuple[float, str] | None
    """Value and run."""
    max: tuple[float, str] | None
    mean: float | None


@dataclass(frozen=True, slots=True)
class ListedMetric:
    """One metric of an experiment, or of all."""

    name: str
    run_count: int


@dataclass(frozen=True, slots=True)
class ExperimentSummary:
    """An experiment at a glance."""

    experiment: ExperimentRecord
    run_counts: list[tuple[int, int]]
    """Status and count."""
    metrics: list[AcrossRuns]
    """Sorted by name, one page."""
    more_metrics: bool
    newest_runs: list[RunRecord]
    read_ms: int


@dataclass(frozen=True, slots=True)
class DashboardStats:
    """A few numbers over everything."""

    total_experiments: int
    total_runs: int
    active_runs: int
    runs_completed_today: int
    read_ms: int


@dataclass(frozen=True, slots=True)
class SeriesPart:
    """Points of one series."""

    run_id: str
    name: str
    steps: Ints
    times: Ints
    values: Floats
    total_points: int
    downsampled: bool


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a history a page begins."""

    series_index: int = 0
    step: int | None = None
    """The step to go on with; None: the first of the range."""
    step_offset: int = 0
    """How many points of that step were already returned."""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of points."""

    parts: list[SeriesPart]
    following: Position | None
    """Where the next page begins; None: this was the last."""


@dataclass(frozen=True, slots=True)
class RunChange:
    """A run as it is, for those who watch it."""

    run: RunRecord
    metrics: list[MetricRecord]
    """Sorted by name, as many as were asked for."""
    revision: int
    purged: bool
    experiment_deleted_ms: int | None = None
    """When its experiment was deleted; None: it is not."""


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt that has ended, for other services."""

    run_id: str
    experiment_id: str
    attempt: int
    status: int
    reason: str
    ended_ms: int
    final_metrics: Mapping[str, Json]
    last_values: Mapping[str, float]
    """Of the run's metrics; empty where the attempt is not its newest one."""
    artifacts: Mapping[str, str]
    metadata: Mapping[str, str]
    key: Json
    """Of the write that ended it."""
