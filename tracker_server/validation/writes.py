"""The rules of requests that change something, one function for each. See `validate`."""

from __future__ import annotations

from typing import Final

from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import MetricDefinition, MetricGoal, RunStatus
from tracker_server import limits
from tracker_server.validation.blocks import check_blocks
from tracker_server.validation.config import check_config
from tracker_server.validation.fields import (
    check_attempt,
    check_display_name,
    check_entries,
    check_id,
    check_name,
    check_not_negative,
    check_tags,
    check_text,
    check_texts,
    check_timestamp,
    check_unique,
    check_writer,
    check_writer_id,
)
from tracker_server.validation.masks import check_mask
from tracker_server.validation.violations import Violations, entry


def start_run(violations: Violations, request: public.StartRunRequest) -> None:
    """StartRun. The run id may be empty: it is made then."""
    check_id(violations, "run_id", request.run_id, optional=True)
    check_id(violations, "experiment_id", request.experiment_id, optional=True)
    check_display_name(violations, "name", request.name)
    check_config(violations, "config", request.config)
    check_tags(violations, "tags", request.tags)
    check_texts(violations, "metadata", request.metadata)
    check_id(violations, "parent_run_id", request.parent_run_id, optional=True)
    check_display_name(violations, "group", request.group)
    check_attempt(violations, request.attempt)
    check_timestamp(violations, request, request.timestamp)
    check_writer(violations, request.writer_id, request.sequence)


def log_metric(violations: Violations, request: public.LogMetricRequest) -> None:
    """LogMetric."""
    check_id(violations, "run_id", request.run_id)
    check_name(violations, "name", request.name)
    check_timestamp(violations, request, request.timestamp)
    check_attempt(violations, request.attempt)
    check_writer(violations, request.writer_id, request.sequence)


def log_metrics(violations: Violations, request: public.LogMetricsRequest) -> None:
    """LogMetrics."""
    check_id(violations, "run_id", request.run_id)
    check_writer(violations, request.writer_id, request.sequence)
    check_attempt(violations, request.attempt)
    check_blocks(violations, request.blocks)
    check_not_negative(violations, "dropped_points", request.dropped_points)
    if request.dropped_points > 0 and request.blocks:
        violations.add(
            "dropped_points",
            f"is {request.dropped_points} beside {len(request.blocks)} blocks; a void write has no blocks",
        )


def close_writer(violations: Violations, request: public.CloseWriterRequest) -> None:
    """CloseWriter."""
    check_id(violations, "run_id", request.run_id)
    check_writer_id(violations, request.writer_id)
    check_not_negative(violations, "last_sequence", request.last_sequence)
    check_attempt(violations, request.attempt)


def run_completed(violations: Violations, request: public.RunCompletedRequest) -> None:
    """RunCompleted."""
    check_id(violations, "run_id", request.run_id)
    check_id(violations, "experiment_id", request.experiment_id, optional=True)
    if request.status not in _TERMINAL:
        violations.add(
            "status",
            f"is {status_name(request.status)}; it must be {', '.join(status_name(status) for status in _TERMINAL)}",
        )
    check_entries(violations, "final_metrics", request.final_metrics)
    for name in request.final_metrics:
        check_name(violations, entry("final_metrics", name), name)
    check_texts(violations, "artifacts", request.artifacts)
    check_texts(violations, "metadata", request.metadata)
    check_text(violations, "reason", request.reason)
    check_timestamp(violations, request, request.timestamp)
    check_attempt(violations, request.attempt)
    check_writer(violations, request.writer_id, request.sequence)


def heartbeat(violations: Violations, request: public.HeartbeatRequest) -> None:
    """Heartbeat."""
    check_id(violations, "run_id", request.run_id)
    check_attempt(violations, request.attempt)


def update_run(violations: Violations, request: public.UpdateRunRequest) -> None:
    """UpdateRun."""
    check_id(violations, "run_id", request.run_id)
    changes = request.changes
    check_display_name(violations, "changes.name", changes.name)
    check_text(violations, "changes.notes", changes.notes)
    check_tags(violations, "changes.tags", changes.tags)
    check_config(violations, "changes.config", changes.config)
    check_texts(violations, "changes.metadata", changes.metadata)
    check_texts(violations, "changes.artifacts", changes.artifacts)
    check_id(violations, "changes.parent_run_id", changes.parent_run_id, optional=True)
    check_display_name(violations, "changes.group", changes.group)
    check_mask(violations, request.update_mask.paths, _RUN_FIELDS, _RUN_MAPS)
    check_attempt(violations, request.attempt)
    check_timestamp(violations, request, request.timestamp)
    check_writer(violations, request.writer_id, request.sequence)


def update_experiment(violations: Violations, request: public.UpdateExperimentRequest) -> None:
    """UpdateExperiment."""
    check_id(violations, "experiment_id", request.experiment_id)
    changes = request.changes
    check_display_name(violations, "changes.name", changes.name)
    check_text(violations, "changes.notes", changes.notes)
    check_tags(violations, "changes.tags", changes.tags)
    check_texts(violations, "changes.metadata", changes.metadata)
    check_entries(violations, "changes.metric_definitions", [one.name for one in changes.metric_definitions])
    check_unique(violations, "changes.metric_definitions", [one.name for one in changes.metric_definitions])
    for index, definition in enumerate(changes.metric_definitions):
        _definition(violations, f"changes.metric_definitions[{index}]", definition)
    for field in ("delete_runs_after_days", "drop_points_after_days"):
        check_not_negative(violations, f"changes.retention.{field}", getattr(changes.retention, field))
    check_mask(violations, request.update_mask.paths, _EXPERIMENT_FIELDS, _EXPERIMENT_MAPS)
    check_timestamp(violations, request, request.timestamp)
    check_writer(violations, request.writer_id, request.sequence)


def rewind_run(violations: Violations, request: public.RewindRunRequest) -> None:
    """RewindRun."""
    check_id(violations, "run_id", request.run_id)
    if request.step >= limits.MAX_STEP:
        violations.add("step", f"is {request.step}; it must be less than {limits.MAX_STEP}: nothing lies beyond that")
    check_attempt(violations, request.attempt)
    check_timestamp(violations, request, request.timestamp)
    check_writer(violations, request.writer_id, request.sequence)


def stop_run(violations: Violations, request: public.StopRunRequest) -> None:
    """StopRun."""
    change_run(violations, request)
    check_text(violations, "reason", request.reason)


def change_run(
    violations: Violations, request: public.StopRunRequest | public.DeleteRunRequest | public.UndeleteRunRequest
) -> None:
    """DeleteRun and UndeleteRun."""
    check_id(violations, "run_id", request.run_id)
    check_timestamp(violations, request, request.timestamp)
    check_writer(violations, request.writer_id, request.sequence)


def change_experiment(
    violations: Violations, request: public.DeleteExperimentRequest | public.UndeleteExperimentRequest
) -> None:
    """DeleteExperiment and UndeleteExperiment."""
    check_id(violations, "experiment_id", request.experiment_id)
    check_timestamp(violations, request, request.timestamp)
    check_writer(violations, request.writer_id, request.sequence)


def status_name(status: int) -> str:
    """A status as people know it; a number where this version has no name for it."""
    known = RunStatus.DESCRIPTOR.values_by_number
    return known[status].name if status in known else str(status)


def _definition(violations: Violations, field: str, definition: MetricDefinition) -> None:
    check_name(violations, f"{field}.name", definition.name)
    if definition.goal not in MetricGoal.values():
        violations.add(f"{field}.goal", f"is {definition.goal}; it must be one of {', '.join(MetricGoal.keys())}")
    if definition.x_metric:
        check_name(violations, f"{field}.x_metric", definition.x_metric)
    check_display_name(violations, f"{field}.unit", definition.unit)
    check_text(violations, f"{field}.description", definition.description)


_TERMINAL: Final = (
    RunStatus.RUN_STATUS_COMPLETED,
    RunStatus.RUN_STATUS_FAILED,
    RunStatus.RUN_STATUS_CANCELLED,
    RunStatus.RUN_STATUS_PREEMPTED,
)
_RUN_FIELDS: Final = frozenset(public.RunChanges.DESCRIPTOR.fields_by_name)
_RUN_MAPS: Final = frozenset({"config", "metadata", "artifacts", "tags"})
_EXPERIMENT_FIELDS: Final = frozenset(public.ExperimentChanges.DESCRIPTOR.fields_by_name)
_EXPERIMENT_MAPS: Final = frozenset({"metadata", "tags", "metric_definitions"})
