"""What importers need of a client, by the bare stub."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub


class StubError(Exception):
    """As `tracker_client.errors.TrackerError`, as far as importers look at it."""

    def __init__(self, error: grpc.RpcError) -> None:
        super().__init__(error.details())
        self.code = error.code().name
        status = rpc_status.from_call(error)
        self.reason = ""
        for detail in status.details if status else ():
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                self.reason = info.reason


class StubClient:
    """An `ImportClient` that never retries."""

    def __init__(self, stub: TrackerServiceStub) -> None:
        self.stub = stub

    def start_run(self, request: public.StartRunRequest, *, timeout: float | None = None) -> public.StartRunResponse:
        """StartRun."""
        answer: public.StartRunResponse = self.call("StartRun", request, timeout)
        return answer

    def log_metrics(
        self, request: public.LogMetricsRequest, *, timeout: float | None = None
    ) -> public.LogMetricsResponse:
        """LogMetrics."""
        answer: public.LogMetricsResponse = self.call("LogMetrics", request, timeout)
        return answer

    def run_completed(
        self, request: public.RunCompletedRequest, *, timeout: float | None = None
    ) -> public.RunCompletedResponse:
        """RunCompleted."""
        answer: public.RunCompletedResponse = self.call("RunCompleted", request, timeout)
        return answer

    def close_writer(
        self, request: public.CloseWriterRequest, *, timeout: float | None = None
    ) -> public.CloseWriterResponse:
        """CloseWriter."""
        answer: public.CloseWriterResponse = self.call("CloseWriter", request, timeout)
        return answer

    def get_run(
        self, run_id: str, *, write_tokens: Iterable[str] = (), timeout: float | None = None
    ) -> public.GetRunResponse:
        """GetRun, all pages of metrics merged."""
        whole = public.GetRunResponse()
        page_token = ""
        while True:
            request = public.GetRunRequest(
                run_id=run_id, write_tokens=list(write_tokens), page_token=page_token, page_size=10_000
            )
            page: public.GetRunResponse = self.call("GetRun", request, timeout)
            metrics = [*whole.metrics, *page.metrics]
            whole.CopyFrom(page)
            del whole.metrics[:]
            whole.metrics.extend(metrics)
            page_token = page.next_page_token
            if not page_token:
                return whole

    def call(self, method: str, request: Any, timeout: float | None) -> Any:
        """One call. Raises StubError."""
        try:
            return getattr(self.stub, method)(request, timeout=timeout or 30)
        except grpc.RpcError as error:
            raise StubError(error) from error
