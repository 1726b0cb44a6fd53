"""A good request of each RPC, and ways to spoil one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import NULL_VALUE
from google.protobuf.timestamp_pb2 import Timestamp

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import (
    ConfigMap,
    MetricBlock,
    MetricColumn,
    MetricDefinition,
    MetricGoal,
    Retention,
    RunStatus,
)
from tracker_server import tokens

WRITER = "0123456789abcdef"
"""A writer id, as short as it may be."""
WRITE_TOKEN = tokens.write_token(internal.Write(scope_id="run", writer_id=WRITER, sequence=1))
"""A good write token."""

Change: TypeAlias = Callable[[Any], object]
"""Spoils a request."""


def good_block() -> MetricBlock:
    """Three rows of one metric."""
    return MetricBlock(
        steps=[1, 2, 3], times_unix_ms=[0, 1, 2], columns=[MetricColumn(name="loss", values=[1.0, 2.0, 3.0])]
    )


def good_config() -> ConfigMap:
    """One value of most kinds."""
    config = ConfigMap()
    config.values["lr"].double_value = 0.1
    config.values["none"].null_value = NULL_VALUE
    config.values["layers"].list_value.values.add().int_value = 2**53 + 1
    config.values["model"].map_value.values["name"].string_value = "mlp"
    config.values["empty list"].list_value.SetInParent()
    config.values["empty map"].map_value.SetInParent()
    return config


GOOD: dict[str, Message] = {
    "StartRun": public.StartRunRequest(
        run_id="run",
        experiment_id="experiment",
        name="A name",
        config=good_config(),
        tags=["tag"],
        metadata={"gpu_type": "A100"},
        parent_run_id="sweep",
        group="fold 1",
        attempt=3,
        timestamp=Timestamp(seconds=1),
        writer_id=WRITER,
        sequence=1,
    ),
    "LogMetric": public.LogMetricRequest(
        run_id="run", name="loss", value=0.5, step=3, timestamp=Timestamp(seconds=1), writer_id=WRITER, sequence=1
    ),
    "LogMetrics": public.LogMetricsRequest(run_id="run", blocks=[good_block()], writer_id=WRITER, sequence=1),
    "CloseWriter": public.CloseWriterRequest(run_id="run", writer_id=WRITER, last_sequence=7),
    "RunCompleted": public.RunCompletedRequest(
        run_id="run",
        experiment_id="experiment",
        status=RunStatus.RUN_STATUS_COMPLETED,
        final_metrics={"accuracy": 0.9},
        artifacts={"model": "s3://bucket/model"},
        metadata={"framework": "torch"},
        reason="early stop",
        timestamp=Timestamp(seconds=1),
        writer_id=WRITER,
        sequence=1,
    ),
    "Heartbeat": public.HeartbeatRequest(run_id="run", attempt=3),
    "UpdateRun": public.UpdateRunRequest(
        run_id="run",
        changes=public.RunChanges(
            name="A name",
            notes="Notes\nin lines",
            tags=["tag"],
            config=good_config(),
            metadata={"key": "value"},
            artifacts={"model": "file:///model"},
            stop_requested=True,
            parent_run_id="sweep",
            group="fold 1",
        ),
        update_mask=FieldMask(
            paths=["name", "config.model.name", "tags.tag", "metadata", "artifacts.a", "stop_requested"]
        ),
        timestamp=Timestamp(seconds=1),
        writer_id=WRITER,
        sequence=1,
    ),
    "UpdateExperiment": public.UpdateExperimentRequest(
        experiment_id="experiment",
        changes=public.ExperimentChanges(
            name="A name",
            notes="Notes",
            tags=["tag"],
            metadata={"key": "value"},
            metric_definitions=[
                MetricDefinition(name="val/*", goal=MetricGoal.METRIC_GOAL_MINIMIZE, x_metric="epoch", unit="nats")
            ],
            retention=Retention(delete_runs_after_days=30, drop_points_after_days=7),
        ),
        update_mask=FieldMask(paths=["name", "notes", "tags", "metadata.key"]),
        timestamp=Timestamp(seconds=1),
        writer_id=WRITER,
        sequence=1,
    ),
    "RewindRun": public.RewindRunRequest(
        run_id="run", step=3, attempt=3, timestamp=Timestamp(seconds=1), writer_id=WRITER, sequence=1
    ),
    "StopRun": public.StopRunRequest(
        run_id="run", reason="diverged", timestamp=Timestamp(seconds=1), writer_id=WRITER, sequence=1
    ),
    **{
        f"{verb}Run": kind(run_id="run", timestamp=Timestamp(seconds=1), writer_id=WRITER, sequence=1)
        for verb, kind in (("Delete", public.DeleteRunRequest), ("Undelete", public.UndeleteRunRequest))
    },
    **{
        f"{verb}Experiment": kind(
            experiment_id="experiment", timestamp=Timestamp(seconds=1), writer_id=WRITER, sequence=1
        )
        for verb, kind in (("Delete", public.DeleteExperimentRequest), ("Undelete", public.UndeleteExperimentRequest))
    },
    "GetSummary": public.GetSummaryRequest(experiment_id="experiment", page_size=10, write_tokens=[WRITE_TOKEN]),
    "GetRun": public.GetRunRequest(run_id="run", page_size=10, write_tokens=[WRITE_TOKEN]),
    "ListExperiments": public.ListExperimentsRequest(page_size=10, write_tokens=[WRITE_TOKEN]),
    "ListRuns": public.ListRunsRequest(
        experiment_id="experiment",
        statuses=[RunStatus.RUN_STATUS_LOST],
        page_size=10,
        write_tokens=[WRITE_TOKEN],
        filter='metrics."val/loss".last < 0.1 AND tags:baseline',
        order_by='metrics."val/loss".min, created_at desc',
        metrics=["val/loss"],
    ),
    "ListMetrics": public.ListMetricsRequest(
        experiment_id="experiment", prefix="val/", page_size=10, write_tokens=[WRITE_TOKEN]
    ),
    "WatchRuns": public.WatchRunsRequest(run_ids=["run"], experiment_id="experiment", metrics=["loss"]),
    "GetMetricHistory": public.GetMetricHistoryRequest(
        run_ids=["a", "b"], metrics=["loss"], min_step=-5, max_step=-5, max_points=4, write_tokens=[WRITE_TOKEN]
    ),
    "GetDashboardStats": public.GetDashboardStatsRequest(write_tokens=[WRITE_TOKEN]),
    "GetServerInfo": public.GetServerInfoRequest(),
}
"""By the name of the RPC."""


def put(path: str, value: object) -> Change:
    """Sets a field, given by its path."""

    def change(request: Any) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            request = getattr(request, parent)
        setattr(request, last, value)

    return change


def extend(path: str, *values: object) -> Change:
    """Adds to a list, given by its path."""

    def change(request: Any) -> None:
        for part in path.split("."):
            request = getattr(request, part)
        request.extend(values)

    return change


def set_entry(path: str, key: str, value: object) -> Change:
    """Sets an entry of a map, given by its path."""

    def change(request: Any) -> None:
        for part in path.split("."):
            request = getattr(request, part)
        request[key] = value

    return change


def set_config(path: str, config: ConfigMap) -> Change:
    """Sets a config, given by its path."""

    def change(request: Any) -> None:
        for part in path.split("."):
            request = getattr(request, part)
        request.CopyFrom(config)

    return change


def clear(path: str) -> Change:
    """Empties a field of the request."""
    return lambda request: request.ClearField(path)
