"""Records as messages of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as public
from tracker_server import limits
from tracker_server.model.definitions import definition_name
from tracker_server.model.ranges import Ranges
from tracker_server.model.records import (
    AcrossRuns,
    AttemptRecord,
    DashboardStats,
    ExperimentRecord,
    ExperimentSummary,
    ListedMetric,
    MetricRecord,
    RunChange,
    RunDetails,
    RunRecord,
    SeriesPart,
    WriterRecord,
)
from tracker_server.model.typed_json import Json, decode_double, decode_map


def timestamp(milliseconds: int) -> Timestamp:
    """A point in time."""
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def run_message(record: RunRecord) -> resources.Run:
    """A run."""
    return resources.Run(
        run_id=record.run_id,
        experiment_id=record.experiment_id,
        name=record.name,
        notes=record.notes,
        status=_status(record.status),
        attempt=record.attempt,
        config=decode_map(record.config),
        tags=record.tags,
        metadata=record.metadata,
        artifacts=record.artifacts,
        final_metrics={name: decode_double(value) for name, value in record.final_metrics.items()},
        created_at=timestamp(record.created_ms),
        started_at=timestamp(record.started_ms),
        ended_at=_moment(record.ended_ms),
        last_seen_at=_seen(record.last_seen_ms),
        experiment_conflicts=record.experiment_conflicts,
        stop_requested=record.is_to_stop,
        stop_reason=record.stop_reason if record.is_to_stop else "",
        parent_run_id=record.parent_run_id,
        group=record.run_group,
        reason=record.reason,
        lost_since=_moment(record.lost_ms),
        deleted_at=_moment(record.deleted_ms),
        points_dropped_at=_moment(record.points_dropped_ms),
    )


def run_answer(details: RunDetails) -> public.GetRunResponse:
    """A run with its metrics; without the page token."""
    return public.GetRunResponse(
        run=run_message(details.run),
        metrics=[_metric(record) for record in details.metrics],
        attempts=[_attempt(record) for record in details.attempts],
        completeness=resources.Completeness(
            complete=details.complete, writers=[_writer(record) for record in details.writers]
        ),
        as_of=timestamp(details.read_ms),
    )


def update_message(change: RunChange) -> resources.RunUpdate:
    """A run for those who watch it. Of a purged one there is nothing to tell but that."""
    record = change.run
    if change.purged:
        run = resources.Run(
            run_id=record.run_id, experiment_id=record.experiment_id, deleted_at=_moment(record.deleted_ms)
        )
        return resources.RunUpdate(run=run, revision=change.revision)
    return resources.RunUpdate(
        run=run_message(record),
        metrics=[_metric(metric) for metric in change.metrics],
        revision=change.revision,
        experiment_deleted_at=_moment(change.experiment_deleted_ms),
    )


def experiment_message(record: ExperimentRecord) -> resources.Experiment:
    """An experiment."""
    return resources.Experiment(
        experiment_id=record.experiment_id,
        name=record.name,
        notes=record.notes,
        tags=record.tags,
        metadata=record.metadata,
        # The default experiment has always been there.
        created_at=timestamp(record.created_ms) if record.created_ms else None,
        run_count=record.run_count,
        metric_definitions=[
            definition_message(name, record.metric_definitions) for name in sorted(record.metric_definitions)
        ],
        retention=None if record.retention is None else resources.Retention(**record.retention),
        deleted_at=_moment(record.deleted_ms),
    )


def definition_message(name: str, definitions: Mapping[str, Json]) -> resources.MetricDefinition:
    """One definition of an experiment."""
    return resources.MetricDefinition(name=name, **definitions[name])  # type: ignore[arg-type]  # as envelope.py wrote it


def listed_metric(record: ListedMetric, definitions: Mapping[str, Json]) -> resources.ListedMetric:
    """A metric of an experiment, and what it means."""
    name = definition_name(record.name, definitions)
    return resources.ListedMetric(
        name=record.name,
        run_count=record.run_count,
        definition=None if name is None else definition_message(name, definitions),
    )


def run_metrics(records: Iterable[MetricRecord]) -> resources.RunMetrics:
    """Some metrics of a run."""
    return resources.RunMetrics(metrics=[_metric(record) for record in records])


def summary_answer(summary: ExperimentSummary) -> public.GetSummaryResponse:
    """An experiment at a glance; without the page token."""
    return public.GetSummaryResponse(
        experiment=experiment_message(summary.experiment),
        run_counts=[resources.StatusCount(status=_status(status), count=count) for status, count in summary.run_counts],
        metrics=[_across_runs(record, summary.experiment.metric_definitions) for record in summary.metrics],
        newest_runs=[_overview(record) for record in summary.newest_runs],
        as_of=timestamp(summary.read_ms),
    )


def stats_answer(stats: DashboardStats) -> public.GetDashboardStatsResponse:
    """A few numbers over everything."""
    return public.GetDashboardStatsResponse(
        total_experiments=stats.total_experiments,
        total_runs=stats.total_runs,
        active_runs=stats.active_runs,
        runs_completed_today=stats.runs_completed_today,
        as_of=timestamp(stats.read_ms),
    )


def packed_series(part: SeriesPart) -> internal.PackedSeries:
    """A series, its arrays as bytes: the same encoding as tracker.v1.MetricSeries, without an object per point."""
    return internal.PackedSeries(
        run_id=part.run_id,
        name=part.name,
        steps=part.steps.astype("<i8", copy=False).tobytes(),
        times_unix_ms=part.times.astype("<i8", copy=False).tobytes(),
        values=part.values.astype("<f8", copy=False).tobytes(),
        total_points=part.total_points,
        downsampled=part.downsampled,
    )


def _metric(record: MetricRecord) -> resources.MetricSummary:
    totals = record.totals
    message = resources.MetricSummary(name=record.name, count=totals.count, finite_count=totals.finite_count)
    if totals.last is not None:
        message.last.step = totals.last.step
        message.last.time_unix_ms = totals.last.time_ms
        message.last.value = totals.last.value
    for field, extreme in ((message.min, totals.min), (message.max, totals.max)):
        if extreme is not None:
            field.value, field.step = extreme
    mean = totals.mean
    if mean is not None:
        message.mean = mean
    if record.final is not None:
        message.final_value = record.final
    return message


def _attempt(record: AttemptRecord) -> resources.Attempt:
    return resources.Attempt(
        attempt=record.attempt,
        status=_status(record.status),
        started_at=timestamp(record.started_ms),
        ended_at=_moment(record.ended_ms),
        last_seen_at=_seen(record.last_seen_ms),
        reason=record.reason,
        lost_since=_moment(record.lost_ms),
        rewound_from_step=record.rewound_from_step,
    )


def _writer(record: WriterRecord) -> resources.WriterState:
    return resources.WriterState(
        writer_id=record.writer_id,
        applied_count=len(record.applied),
        closed=record.closed,
        last_sequence=record.last_sequence,
        missing=_ranges(record.missing),
        refused=_ranges(record.dead),
        dropped_points=record.dropped_points,
    )


def _ranges(ranges: Ranges) -> list[resources.SequenceRange]:
    listed = ranges.pairs[: limits.MAX_LISTED_RANGES]
    return [resources.SequenceRange(first=first, last=last) for first, last in listed]


def _across_runs(record: AcrossRuns, definitions: Mapping[str, Json]) -> resources.MetricAcrossRuns:
    message = resources.MetricAcrossRuns(
        name=record.name, run_count=record.run_count, non_finite_run_count=record.non_finite_run_count
    )
    for field, extreme in ((message.min, record.min), (message.max, record.max)):
        if extreme is not None:
            field.value, field.run_id = extreme
    if record.mean is not None:
        message.mean = record.mean
    named = definition_name(record.name, definitions)
    if named is not None:
        message.definition.CopyFrom(definition_message(named, definitions))
        smaller_is_better = message.definition.goal == resources.METRIC_GOAL_MINIMIZE
        if record.min is not None and message.definition.goal != resources.METRIC_GOAL_UNSPECIFIED:
            message.best.CopyFrom(message.min if smaller_is_better else message.max)
            message.worst.CopyFrom(message.max if smaller_is_better else message.min)
    return message


def _overview(record: RunRecord) -> resources.RunOverview:
    return resources.RunOverview(
        run_id=record.run_id,
        name=record.name,
        status=_status(record.status),
        created_at=timestamp(record.created_ms),
        ended_at=_moment(record.ended_ms),
    )


def _status(number: int) -> resources.RunStatus.ValueType:
    return resources.RunStatus.ValueType(number)


def _moment(milliseconds: int | None) -> Timestamp | None:
    return None if milliseconds is None else timestamp(milliseconds)


def _seen(milliseconds: int) -> Timestamp | None:
    """Unset where every write was a replay, which shows nothing."""
    return None if milliseconds == limits.MIN_TIME_MS else timestamp(milliseconds)
