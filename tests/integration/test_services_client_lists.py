"""What both clients ask for when they list runs and metrics, and what they make of the pages that come."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.both_clients import KINDS, calling
from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as messages

_CHOICE: dict[str, Any] = {
    "statuses": [data.RUN_STATUS_COMPLETED],
    "filter": 'metrics."val/loss".last < 0.1',
    "order_by": 'metrics."val/loss".min, created_at desc',
    "show_deleted": True,
    "page_size": 2,
}


class _Server:
    """Gives two pages of everything, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def list_runs(self, request: messages.ListRunsRequest, _: Any) -> messages.ListRunsResponse:
        """Answers ListRuns."""
        self.asked.append(request)
        number = 2 if request.page_token else 1
        summary = data.MetricSummary(name="val/loss", count=number)
        metrics = [data.RunMetrics(metrics=[summary])] if request.metrics else []
        return messages.ListRunsResponse(
            runs=[data.Run(run_id=f"r{number}")], run_metrics=metrics, next_page_token="" if request.page_token else "2"
        )

    def list_metrics(self, request: messages.ListMetricsRequest, _: Any) -> messages.ListMetricsResponse:
        """Answers ListMetrics."""
        self.asked.append(request)
        number = 2 if request.page_token else 1
        return messages.ListMetricsResponse(
            metrics=[data.ListedMetric(name=f"m{number}")], next_page_token="" if request.page_token else "2"
        )

    def handlers(self) -> grpc.GenericRpcHandler:
        """Of the two calls."""
        lists: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
            self.list_runs, messages.ListRunsRequest.FromString, messages.ListRunsResponse.SerializeToString
        )
        metrics: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
            self.list_metrics, messages.ListMetricsRequest.FromString, messages.ListMetricsResponse.SerializeToString
        )
        handlers = {"ListRuns": lists, "ListMetrics": metrics}
        return grpc.method_handlers_generic_handler("tracker.v1.TrackerService", handlers)


@pytest.fixture
def server() -> Iterator[tuple[_Server, str]]:
    """One, and its address."""
    servicer = _Server()
    running = grpc.server(ThreadPoolExecutor(2))
    running.add_generic_rpc_handlers((servicer.handlers(),))
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield servicer, f"127.0.0.1:{port}"
    running.stop(None).wait()


@pytest.mark.parametrize("kind", KINDS)
async def test_runs_are_listed_as_they_are_asked_for(kind: str, server: tuple[_Server, str]) -> None:
    servicer, address = server
    async with calling(kind, address) as caller:
        runs = await caller.all("list_runs", "e", **_CHOICE, write_tokens=["t"])
        with_metrics = await caller.all("list_runs_with_metrics", ["val/loss"], "e", **_CHOICE)
    expected = messages.ListRunsRequest(experiment_id="e", **_CHOICE)
    first, second, third, _ = servicer.asked
    assert [run.run_id for run in runs] == ["r1", "r2"]
    assert first == messages.ListRunsRequest(experiment_id="e", **_CHOICE, write_tokens=["t"])
    assert second == messages.ListRunsRequest(experiment_id="e", **_CHOICE, page_token="2")
    expected.metrics.append("val/loss")
    assert third == expected
    assert [(run.run_id, {name: one.count for name, one in metrics.items()}) for run, metrics in with_metrics] == [
        ("r1", {"val/loss": 1}),
        ("r2", {"val/loss": 2}),
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_metrics_are_listed_as_they_are_asked_for(kind: str, server: tuple[_Server, str]) -> None:
    servicer, address = server
    async with calling(kind, address) as caller:
        metrics = await caller.all("list_metrics", "e", prefix="m", page_size=1, write_tokens=["t"])
    assert [metric.name for metric in metrics] == ["m1", "m2"]
    assert servicer.asked == [
        messages.ListMetricsRequest(experiment_id="e", prefix="m", page_size=1, write_tokens=["t"]),
        messages.ListMetricsRequest(experiment_id="e", prefix="m", page_size=1, page_token="2"),
    ]
