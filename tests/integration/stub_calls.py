"""Real calls through the stubs and tracker_client, with nothing but grpcio and protobuf: stub_calls.py HOST:PORT.

Run by test_stub_compatibility.py in environments of their own. Prints the versions as JSON when all went well.
"""

from __future__ import annotations

import json
import math
import sys
import uuid
from typing import Any

import google.protobuf
import grpc

from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_client import from_config, to_config

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


def main() -> None:
    """Makes the calls."""
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = TrackerServiceStub(channel)
        call_everything(stub)
        check_error(stub)
    json.dump({"grpcio": grpc.__version__, "protobuf": google.protobuf.__version__}, sys.stdout)


if __name__ == "__main__":
    main()
