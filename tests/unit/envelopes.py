"""Good writes for tests, one of each kind."""

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import ConfigList, ConfigMap, ConfigValue, RunStatus

NOW_MS = 1_700_000_000_000


def log_metrics() -> public.LogMetricsRequest:
    """Two metrics at two steps."""
    request = public.LogMetricsRequest(run_id="r")
    block = request.blocks.add(steps=[1, -(2**62)], times_unix_ms=[NOW_MS, 0])
    block.columns.add(name="loss", values=[0.5, float("nan")])
    block.columns.add(name="acc", values=[-0.0, 1e308])
    return request


def start_run() -> public.StartRunRequest:
    """A start with everything in it."""
    config = ConfigMap(values={"lr": ConfigValue(double_value=0.1)})
    config.values["deep"].list_value.CopyFrom(ConfigList(values=[ConfigValue(string_value="x")]))
    request = public.StartRunRequest(
        run_id="r", experiment_id="e", name="n", tags=["t"], metadata={"k": "v"}, config=config
    )
    request.timestamp.FromMilliseconds(NOW_MS)
    return request


def run_completed() -> public.RunCompletedRequest:
    """An end with everything in it."""
    request = public.RunCompletedRequest(
        run_id="r",
        experiment_id="e",
        status=RunStatus.RUN_STATUS_COMPLETED,
        final_metrics={"acc": 0.5},
        artifacts={"model": "s3://bucket/model"},
        metadata={"k": "v"},
    )
    request.timestamp.FromMilliseconds(NOW_MS)
    return request


def update_run() -> public.UpdateRunRequest:
    """A change of a run, with a mask."""
    request = public.UpdateRunRequest(run_id="r")
    request.changes.name = "n"
    request.changes.tags.append("t")
    request.changes.config.values["lr"].int_value = 2**53 + 1
    request.update_mask.paths.extend(["name", "notes", "config.lr", "config.gone", "tags"])
    return request


def update_experiment() -> public.UpdateExperimentRequest:
    """A change of an experiment."""
    request = public.UpdateExperimentRequest(experiment_id="e")
    request.changes.notes = "n"
    request.changes.metadata["k"] = "v"
    return request


def good_write(kind: int, payload: bytes | None = None, **changes: object) -> internal.Write:
    """A write that can be stored, but for the changes."""
    write = internal.Write(
        kind=kind,  # type: ignore[arg-type]  # any number, as on the wire
        scope_id="r",
        writer_id="w" * 16,
        sequence=1,
        accepted_at_unix_ms=NOW_MS,
        payload=PAYLOADS[kind] if payload is None else payload,
    )
    for name, value in changes.items():
        setattr(write, name, value)
    return write


PAYLOADS: dict[int, bytes] = {
    internal.WRITE_KIND_START_RUN: start_run().SerializeToString(),
    internal.WRITE_KIND_LOG_METRIC: public.LogMetricRequest(run_id="r", name="loss", value=1.0).SerializeToString(),
    internal.WRITE_KIND_LOG_METRICS: log_metrics().SerializeToString(),
    internal.WRITE_KIND_CLOSE_WRITER: public.CloseWriterRequest(run_id="r", last_sequence=4).SerializeToString(),
    internal.WRITE_KIND_RUN_COMPLETED: run_completed().SerializeToString(),
    internal.WRITE_KIND_HEARTBEAT: public.HeartbeatRequest(run_id="r").SerializeToString(),
    internal.WRITE_KIND_UPDATE_RUN: update_run().SerializeToString(),
    internal.WRITE_KIND_UPDATE_EXPERIMENT: update_experiment().SerializeToString(),
}
