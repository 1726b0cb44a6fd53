"""What the front needs to answer reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from tracker.v1 import tracker_service_pb2 as public


class Reads(Protocol):
    """Answers reads that were validated, on the event loop.

    deadline: seconds that are left, None when the caller set none. An answer is a message, or its encoding where that
    is at hand already. Raises RunNotFound, ExperimentNotFound, StoreUnavailable, WriteNotVisible, WriteDeadLettered,
    or InvalidRequest for a page token.
    """

    async def get_summary(
        self, request: public.GetSummaryRequest, deadline: float | None
    ) -> public.GetSummaryResponse | bytes:
        """An experiment at a glance."""

    async def get_run(self, request: public.GetRunRequest, deadline: float | None) -> public.GetRunResponse | bytes:
        """A run with its attempts and its metrics."""

    async def list_experiments(
        self, request: public.ListExperimentsRequest, deadline: float | None
    ) -> public.ListExperimentsResponse | bytes:
        """A page of experiments."""

    async def list_runs(
        self, request: public.ListRunsRequest, deadline: float | None
    ) -> public.ListRunsResponse | bytes:
        """A page of runs."""

    async def list_metrics(
        self, request: public.ListMetricsRequest, deadline: float | None
    ) -> public.ListMetricsResponse | bytes:
        """A page of metrics."""

    async def get_metric_history(
        self, request: public.GetMetricHistoryRequest, deadline: float | None
    ) -> public.GetMetricHistoryResponse | bytes:
        """A page of points."""

    async def get_dashboard_stats(
        self, request: public.GetDashboardStatsRequest, deadline: float | None
    ) -> public.GetDashboardStatsResponse | bytes:
        """A few numbers over everything."""


class Watches(Protocol):
    """Serves watchers, whose requests were validated, on the event loop."""

    async def watch(
        self, request: public.WatchRunsRequest, send: Callable[[public.WatchRunsResponse], Awaitable[None]]
    ) -> None:
        """Sends runs as they change, until it is cancelled. Raises TooManyWatchers, StoreUnavailable or InvalidRequest."""
