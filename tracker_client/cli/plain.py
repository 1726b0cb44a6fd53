"""The service's messages as what JSON holds. Names are those of the contract; statuses are lower-case words.

Integers are numbers. What is not set is null. Not finite: "NaN", "Infinity", "-Infinity", as in protobuf's JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client.cli.texts import exact, goal, instant, rfc3339, status
from tracker_client.config import from_config

Json = dict[str, Any]


def real(value: float) -> float | str:
    """A number, or the name of one that JSON does not have."""
    return value if math.isfinite(value) else exact(value)


def run(message: resources.Run) -> Json:
    """A run."""
    return {
        "run_id": message.run_id,
        "experiment_id": message.experiment_id,
        "name": message.name,
        "notes": message.notes,
        "status": status(message.status),
        "attempt": message.attempt,
        "config": finite(from_config(message.config)),
        "tags": list(message.tags),
        "metadata": dict(sorted(message.metadata.items())),
        "artifacts": dict(sorted(message.artifacts.items())),
        "final_metrics": {name: real(value) for name, value in sorted(message.final_metrics.items())},
        **_times(message, "created_at", "started_at", "ended_at", "last_seen_at", "lost_since"),
        "reason": message.reason,
        "group": message.group,
        "parent_run_id": message.parent_run_id,
        "experiment_conflicts": list(message.experiment_conflicts),
        "stop_requested": message.stop_requested,
        "stop_reason": message.stop_reason,
        **_times(message, "deleted_at", "points_dropped_at"),
    }


def run_details(response: messages.GetRunResponse) -> Json:
    """A run with its metrics, its attempts, and whether everything has arrived."""
    return {
        **run(response.run),
        "metrics": [metric(one) for one in response.metrics],
        "attempts": [
            {
                "attempt": one.attempt,
                "status": status(one.status),
                **_times(one, "started_at", "ended_at", "last_seen_at", "lost_since"),
                "reason": one.reason,
                "rewound_from_step": one.rewound_from_step if one.HasField("rewound_from_step") else None,
            }
            for one in response.attempts
        ],
        "completeness": {
            "complete": response.completeness.complete,
            "writers": [_writer(one) for one in response.completeness.writers],
        },
        **_times(response, "as_of"),
    }


def metric(message: resources.MetricSummary) -> Json:
    """What a series amounts to."""
    last = message.last
    return {
        "name": message.name,
        "count": message.count,
        "finite_count": message.finite_count,
        "last": {"step": last.step, "time_unix_ms": last.time_unix_ms, "value": real(last.value)}
        if message.HasField("last")
        else None,
        "min": {"value": message.min.value, "step": message.min.step} if message.HasField("min") else None,
        "max": {"value": message.max.value, "step": message.max.step} if message.HasField("max") else None,
        "mean": real(message.mean) if message.HasField("mean") else None,
        "final_value": real(message.final_value) if message.HasField("final_value") else None,
    }


def experiment(message: resources.Experiment) -> Json:
    """An experiment."""
    return {
        "experiment_id": message.experiment_id,
        "name": message.name,
        "notes": message.notes,
        "tags": list(message.tags),
        "metadata": dict(sorted(message.metadata.items())),
        "run_count": message.run_count,
        "metric_definitions": [definition(one) for one in message.metric_definitions],
        "retention": {
            "delete_runs_after_days": message.retention.delete_runs_after_days,
            "drop_points_after_days": message.retention.drop_points_after_days,
        }
        if message.HasField("retention")
        else None,
        **_times(message, "created_at", "deleted_at"),
    }


def definition(message: resources.MetricDefinition) -> Json:
    """What a metric means."""
    return {
        "name": message.name,
        "goal": goal(message.goal),
        "x_metric": message.x_metric,
        "unit": message.unit,
        "description": message.description,
    }


def listed_metric(message: resources.ListedMetric) -> Json:
    """One metric of an experiment."""
    return {
        "name": message.name,
        "run_count": message.run_count,
        "definition": definition(message.definition) if message.HasField("definition") else None,
    }


def summary(response: messages.GetSummaryResponse) -> Json:
    """An experiment at a glance."""
    return {
        "experiment": experiment(response.experiment),
        "run_counts": {status(one.status): one.count for one in response.run_counts},
        "metrics": [_across_runs(one) for one in response.metrics],
        "newest_runs": [
            {
                "run_id": one.run_id,
                "name": one.name,
                "status": status(one.status),
                **_times(one, "created_at", "ended_at"),
            }
            for one in response.newest_runs
        ],
        **_times(response, "as_of"),
    }


def _across_runs(message: resources.MetricAcrossRuns) -> Json:
    return {
        "name": message.name,
        "run_count": message.run_count,
        "non_finite_run_count": message.non_finite_run_count,
        **{name: _run_value(message, name) for name in ("min", "max", "best", "worst")},
        "mean": real(message.mean) if message.HasField("mean") else None,
        "definition": definition(message.definition) if message.HasField("definition") else None,
    }


def _run_value(message: resources.MetricAcrossRuns, name: Literal["min", "max", "best", "worst"]) -> Json | None:
    one = getattr(message, name)
    return {"value": one.value, "run_id": one.run_id} if message.HasField(name) else None


def _writer(message: resources.WriterState) -> Json:
    return {
        "writer_id": message.writer_id,
        "applied_count": message.applied_count,
        "closed": message.closed,
        "last_sequence": message.last_sequence,
        "missing": [[one.first, one.last] for one in message.missing],
        "refused": [[one.first, one.last] for one in message.refused],
        "dropped_points": message.dropped_points,
    }


def _times(message: Message, *names: str) -> Mapping[str, str | None]:
    return {name: _time(getattr(message, name)) if message.HasField(name) else None for name in names}


def _time(stamp: Timestamp) -> str:
    return rfc3339(instant(stamp))


def finite(value: Any) -> Any:
    """A config, with numbers that JSON does not have as texts."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return real(value) if isinstance(value, float) else value
