"""Real calls through stubs and clients, with nothing but grpcio and protobuf: stub_calls.py HOST:PORT.

Run by test_stub_compatibility.py in environments of their own. Prints the versions as JSON when all went well.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import uuid
from array import array
from typing import Any

import google.protobuf
import grpc

from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_client import from_config, to_config
from tracker_client.aio import AsyncTrackerClient
from tracker_client.client import TrackerClient
from tracker_client.errors import InvalidRequest, NotFound

_SECONDS = 20.0
_CONFIG = {"optimizer": {"lr": 0.1, "steps": 2**53 + 1, "nesterov": False, "decay": None}, "layers": [64, "relu", {}]}
_VALUES = [0.5, math.nan, math.inf, -math.inf, -0.0]


def call_everything(stub: TrackerServiceStub) -> None:
    """A run from start to summary, and a request that is refused."""
    run_id, writer_id = f"run-{uuid.uuid4()}", str(uuid.uuid4())
    started = stub.StartRun(
        messages.StartRunRequest(
            run_id=run_id,
            experiment_id=run_id,
            config=to_config(_CONFIG),
            tags=["ünïcode 🙂"],
            metadata={"framework": "none"},
            writer_id=writer_id,
            sequence=1,
        ),
        timeout=_SECONDS,
    )
    block = resources.MetricBlock(
        steps=range(len(_VALUES)), columns=[resources.MetricColumn(name="loss", values=_VALUES)]
    )
    request = messages.LogMetricsRequest(run_id=run_id, writer_id=writer_id, sequence=2, blocks=[block])
    logged = stub.LogMetrics(request, timeout=_SECONDS)
    stub.LogMetrics(request, timeout=_SECONDS)  # a retry: stored once
    tokens = [started.write_token, logged.write_token]

    run = stub.GetRun(messages.GetRunRequest(run_id=run_id, write_tokens=tokens), timeout=_SECONDS)
    assert from_config(run.run.config) == _CONFIG, run.run.config
    assert run.run.status == resources.RUN_STATUS_RUNNING, run.run
    assert list(run.run.tags) == ["ünïcode 🙂"], run.run
    assert [metric.count for metric in run.metrics] == [len(_VALUES)], run.metrics

    history = stub.GetMetricHistory(
        messages.GetMetricHistoryRequest(run_ids=[run_id], metrics=["loss"], write_tokens=tokens), timeout=_SECONDS
    )
    assert list(history.series[0].steps) == list(range(len(_VALUES))), history
    assert [value.hex() for value in history.series[0].values] == [value.hex() for value in _VALUES], history

    summary = stub.GetSummary(messages.GetSummaryRequest(experiment_id=run_id, write_tokens=tokens), timeout=_SECONDS)
    assert summary.experiment.run_count == 1, summary
    assert summary.metrics[0].mean == 0.0, summary


def check_error(stub: TrackerServiceStub) -> None:
    """An error's details, as far as one sees them without the googleapis package."""
    error = None
    try:
        stub.LogMetric(messages.LogMetricRequest(run_id="a/b", name="", value=1.0), timeout=_SECONDS)
    except grpc.RpcError as caught:
        error = caught
    assert error is not None, "a wrong request was taken"
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    metadata: Any = error.trailing_metadata()  # pairs, whatever its types say
    details = dict(metadata)["grpc-status-details-bin"]
    for part in (b"google.rpc.ErrorInfo", b"INVALID_REQUEST", b"google.rpc.BadRequest", b"run_id", b"name"):
        assert part in details, (part, details)


def call_with_client(address: str) -> None:
    """Writes and reads as services do."""
    run_id = f"run-{uuid.uuid4()}"
    with TrackerClient(address, timeout=_SECONDS, api_key="not-asked-for") as client:
        logged = client.log_metrics(
            messages.LogMetricsRequest(
                run_id=run_id,
                blocks=[
                    resources.MetricBlock(
                        steps=range(len(_VALUES)), columns=[resources.MetricColumn(name="loss", values=_VALUES)]
                    )
                ],
            )
        )
        series: Any
        (series,) = client.get_metric_history(run_id, "loss", write_tokens=[logged.write_token])
        # There is no NumPy here: arrays are the standard library's.
        assert isinstance(series.values, array), series
        assert [value.hex() for value in series.values] == [value.hex() for value in _VALUES], series
        assert isinstance(series.steps, array), series
        assert list(series.steps) == list(range(len(_VALUES))), series
        parts = list(client.iter_metric_history(run_id, "loss", page_size=2))
        assert [list(part.steps) for part in parts] == [[0, 1], [2, 3], [4]], parts
        error = None
        try:
            client.log_metric(messages.LogMetricRequest(run_id="a/b", name=""))
        except InvalidRequest as caught:
            error = caught
        assert error is not None, "a wrong request was taken"
        assert error.reason == "INVALID_REQUEST", error
        assert [field for field, _ in error.violations] == ["run_id", "name"], error.violations


async def call_with_aio_client(address: str) -> None:
    """Reads as services do that use asyncio."""
    async with AsyncTrackerClient(address, timeout=_SECONDS, api_key="not-asked-for") as client:
        info = await client.get_server_info()
        assert info.embedded, info
        runs = [run.run_id async for run in client.list_runs(page_size=1)]
        assert len(runs) == len(set(runs)) >= 2, runs
        error = None
        try:
            await client.get_run("nobody")
        except NotFound as caught:
            error = caught
        assert error is not None, "a run that is not there was found"
        assert error.reason == "RUN_NOT_FOUND", error


def main() -> None:
    """Makes the calls."""
    call_with_client(sys.argv[1])
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = TrackerServiceStub(channel)
        call_everything(stub)
        check_error(stub)
    asyncio.run(call_with_aio_client(sys.argv[1]))
    json.dump({"grpcio": grpc.__version__, "protobuf": google.protobuf.__version__}, sys.stdout)


if __name__ == "__main__":
    main()
