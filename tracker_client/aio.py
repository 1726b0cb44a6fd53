"""The client for services, for asyncio. The twin of client.py, method by method."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from tracker.v1 import tracker_service_pb2 as messages
from tracker.v1.resources_pb2 import Experiment, ListedMetric, MetricSeries, MetricSummary, Run, RunMetrics, RunStatus
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_client.call_attempts import Attempts, checked_timeout
from tracker_client.channel import open_aio_channel
from tracker_client.client import DEFAULT_TIMEOUT_SECONDS
from tracker_client.endpoint import endpoint
from tracker_client.errors import ClientClosed
from tracker_client.history import Series, SeriesBuilder, history_request
from tracker_client.pages import PagedRequest, PagedResponse, add_page, turn
from tracker_client.watch import Watch, watch_request

if TYPE_CHECKING:
    from tracker.v1.tracker_service_pb2_grpc import TrackerServiceAsyncStub

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)
_Paged = TypeVar("_Paged", bound=PagedRequest)
_Page = TypeVar("_Page", bound=PagedResponse)


class AsyncTrackerClient:
    """Calls of the service, on one event loop. Everything is as in TrackerClient, with await and async for."""

    def __init__(
        self, server: str | None = None, *, api_key: str | None = None, timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> None:
        """As TrackerClient. Belongs to the loop on which it is first used. Raises BadSetting."""
        self._endpoint = endpoint(server, api_key)
        self._timeout = checked_timeout(timeout)
        self._channel: grpc.aio.Channel | None = None
        self._closed = asyncio.Event()

    @property
    def server(self) -> str:
        """HOST:PORT."""
        return self._endpoint.target

    async def close(self) -> None:
        """Ends the connection; calls under way raise ClientClosed. May be repeated."""
        self._closed.set()
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start_run(
        self, request: messages.StartRunRequest, *, timeout: float | None = None
    ) -> messages.StartRunResponse:
        """Starts a run, or a new attempt of one. Safe to retry when it names its run."""
        return await self._call(self._stub.StartRun, request, timeout)

    async def log_metric(
        self, request: messages.LogMetricRequest, *, timeout: float | None = None
    ) -> messages.LogMetricResponse:
        """Logs one point."""
        return await self._call(self._stub.LogMetric, request, timeout)

    async def log_metrics(
        self, request: messages.LogMetricsRequest, *, timeout: float | None = None
    ) -> messages.LogMetricsResponse:
        """Logs many points, in columns."""
        return await self._call(self._stub.LogMetrics, request, timeout)

    async def close_writer(
        self, request: messages.CloseWriterRequest, *, timeout: float | None = None
    ) -> messages.CloseWriterResponse:
        """Says which sequence was a writer's last."""
        return await self._call(self._stub.CloseWriter, request, timeout)

    async def run_completed(
        self, request: messages.RunCompletedRequest, *, timeout: float | None = None
    ) -> messages.RunCompletedResponse:
        """Ends an attempt of a run."""
        return await self._call(self._stub.RunCompleted, request, timeout)

    async def heartbeat(
        self, request: messages.HeartbeatRequest, *, timeout: float | None = None
    ) -> messages.HeartbeatResponse:
        """Says that a run is alive, and hears whether it should stop."""
        return await self._call(self._stub.Heartbeat, request, timeout)

    async def update_run(
        self, request: messages.UpdateRunRequest, *, timeout: float | None = None
    ) -> messages.UpdateRunResponse:
        """Changes what people may change of a run, or asks it to stop."""
        return await self._call(self._stub.UpdateRun, request, timeout)

    async def update_experiment(
        self, request: messages.UpdateExperimentRequest, *, timeout: float | None = None
    ) -> messages.UpdateExperimentResponse:
        """Changes an experiment; makes it if it is not there."""
        return await self._call(self._stub.UpdateExperiment, request, timeout)

    async def rewind_run(
        self, request: messages.RewindRunRequest, *, timeout: float | None = None
    ) -> messages.RewindRunResponse:
        """Goes on from a checkpoint: a new attempt, and what earlier ones logged beyond it is superseded. Safe to retry when
        it names its attempt and bears the pair.
        """
        return await self._call(self._stub.RewindRun, request, timeout)

    async def stop_run(
        self, request: messages.StopRunRequest, *, timeout: float | None = None
    ) -> messages.StopRunResponse:
        """Asks a run to stop, or takes that back; its next heartbeat is told."""
        return await self._call(self._stub.StopRun, request, timeout)

    async def delete_run(
        self, request: messages.DeleteRunRequest, *, timeout: float | None = None
    ) -> messages.DeleteRunResponse:
        """Hides a run at once; it can be restored for a while."""
        return await self._call(self._stub.DeleteRun, request, timeout)

    async def undelete_run(
        self, request: messages.UndeleteRunRequest, *, timeout: float | None = None
    ) -> messages.UndeleteRunResponse:
        """Restores a deleted run."""
        return await self._call(self._stub.UndeleteRun, request, timeout)

    async def delete_experiment(
        self, request: messages.DeleteExperimentRequest, *, timeout: float | None = None
    ) -> messages.DeleteExperimentResponse:
        """Hides an experiment and its runs at once; they can be restored for a while."""
        return await self._call(self._stub.DeleteExperiment, request, timeout)

    async def undelete_experiment(
        self, request: messages.UndeleteExperimentRequest, *, timeout: float | None = None
    ) -> messages.UndeleteExperimentResponse:
        """Restores a deleted experiment."""
        return await self._call(self._stub.UndeleteExperiment, request, timeout)

    async def get_summary(
        self, experiment_id: str, *, write_tokens: Iterable[str] = (), timeout: float | None = None
    ) -> messages.GetSummaryResponse:
        """An experiment at a glance, with all of its metrics. Raises NotFound."""
        request = messages.GetSummaryRequest(experiment_id=experiment_id, write_tokens=write_tokens)
        whole = await self._call(self._stub.GetSummary, request, timeout)
        while turn(request, whole):
            add_page(whole, await self._call(self._stub.GetSummary, request, timeout))
        return whole

    async def get_run(
        self,
        run_id: str,
        *,
        show_deleted: bool = False,
        write_tokens: Iterable[str] = (),
        timeout: float | None = None,
    ) -> messages.GetRunResponse:
        """A run, its attempts, all of its metrics, and whether everything has arrived. Raises NotFound.

        show_deleted: a deleted one too, as long as it can be restored.
        """
        request = messages.GetRunRequest(run_id=run_id, show_deleted=show_deleted, write_tokens=write_tokens)
        whole = await self._call(self._stub.GetRun, request, timeout)
        while turn(request, whole):
            add_page(whole, await self._call(self._stub.GetRun, request, timeout))
        return whole

    async def list_experiments(
        self,
        *,
        show_deleted: bool = False,
        page_size: int = 0,
        write_tokens: Iterable[str] = (),
        timeout: float | None = None,
    ) -> AsyncIterator[Experiment]:
        """All experiments, newest first. show_deleted: deleted ones too, as long as they can be restored."""
        request = messages.ListExperimentsRequest(
            show_deleted=show_deleted, page_size=page_size, write_tokens=write_tokens
        )
        async for page in self._pages(self._stub.ListExperiments, request, timeout):
            for experiment in page.experiments:
                yield experiment

    async def list_runs(
        self,
        experiment_id: str = "",
        *,
        statuses: Iterable[RunStatus.ValueType] = (),
        filter: str = "",  # noqa: A002  # as the contract calls it
        order_by: str = "",
        show_deleted: bool = False,
        page_size: int = 0,
        write_tokens: Iterable[str] = (),
        timeout: float | None = None,
    ) -> AsyncIterator[Run]:
        """Runs of one experiment, or of all; with one of these statuses, or with any; newest first.

        filter: only those that meet a condition; order_by: in another order; see docs/finding.md. show_deleted: deleted
        ones too, as long as they can be restored.
        """
        request = messages.ListRunsRequest(
            experiment_id=experiment_id,
            statuses=statuses,
            filter=filter,
            order_by=order_by,
            show_deleted=show_deleted,
            page_size=page_size,
            write_tokens=write_tokens,
        )
        async for page in self._pages(self._stub.ListRuns, request, timeout):
            for run in page.runs:
                yield run

    async def list_runs_with_metrics(
        self,
        metrics: Iterable[str],
        experiment_id: str = "",
        *,
        statuses: Iterable[RunStatus.ValueType] = (),
        filter: str = "",  # noqa: A002  # as the contract calls it
        order_by: str = "",
        show_deleted: bool = False,
        page_size: int = 0,
        write_tokens: Iterable[str] = (),
        timeout: float | None = None,
    ) -> AsyncIterator[tuple[Run, dict[str, MetricSummary]]]:
        """Runs as list_runs gives them, each with the summaries of those of these metrics (at most 100) that it has."""
        request = messages.ListRunsRequest(
            experiment_id=experiment_id,
            statuses=statuses,
            filter=filter,
            order_by=order_by,
            show_deleted=show_deleted,
            metrics=metrics,
            page_size=page_size,
            write_tokens=write_tokens,
        )
        async for page in self._pages(self._stub.ListRuns, request, timeout):
            for run, own in zip(page.runs, page.run_metrics or [RunMetrics()] * len(page.runs), strict=True):
                yield run, {metric.name: metric for metric in own.metrics}

    async def list_metrics(
        self,
        experiment_id: str = "",
        *,
        prefix: str = "",
        page_size: int = 0,
        write_tokens: Iterable[str] = (),
        timeout: float | None = None,
    ) -> AsyncIterator[ListedMetric]:
        """The metrics of an experiment, or of all, whose names begin with the prefix, sorted by name."""
        request = messages.ListMetricsRequest(
            experiment_id=experiment_id, prefix=prefix, page_size=page_size, write_tokens=write_tokens
        )
        async for page in self._pages(self._stub.ListMetrics, request, timeout):
            for metric in page.metrics:
                yield metric

    async def iter_metric_history(
        self,
        run_ids: Sequence[str] | str,
        metrics: Sequence[str] | str,
        *,
        min_step: int | None = None,
        max_step: int | None = None,
        attempt: int | None = None,
        page_size: int = 0,
        write_tokens: Iterable[str] = (),
        timeout: float | None = None,
    ) -> AsyncIterator[MetricSeries]:
        """Every point of these metrics of these runs, as it comes: one page in memory at a time.

        Steps are inclusive. A series comes in as many parts as it takes, one after the other; one without points comes
        once, empty. attempt: all points of this attempt, those that a newer one has superseded included, and no others.
        """
        request = history_request(
            run_ids,
            metrics,
            min_step=min_step,
            max_step=max_step,
            attempt=attempt,
            page_size=page_size,
            write_tokens=write_tokens,
        )
        async for page in self._pages(self._stub.GetMetricHistory, request, timeout):
            for part in page.series:
                yield part

    async def get_metric_history(
        self,
        run_ids: Sequence[str] | str,
        metrics: Sequence[str] | str,
        *,
        min_step: int | None = None,
        max_step: int | None = None,
        max_points: int = 0,
        attempt: int | None = None,
        write_tokens: Iterable[str] = (),
        timeout: float | None = None,
    ) -> list[Series]:
        """Points of these metrics of these runs as arrays: a series for every run and metric, in this order.

        Steps are inclusive. max_points: at most so many a series (4 to 10,000), so that no peak disappears; 0: all.
        attempt: all points of this attempt, those that a newer one has superseded included, and no others.
        """
        request = history_request(
            run_ids,
            metrics,
            min_step=min_step,
            max_step=max_step,
            max_points=max_points,
            attempt=attempt,
            write_tokens=write_tokens,
        )
        builder = SeriesBuilder()
        async for page in self._pages(self._stub.GetMetricHistory, request, timeout):
            for part in page.series:
                builder.add(part)
        return builder.finish()

    async def watch_runs(
        self,
        experiment_id: str = "",
        *,
        run_ids: Iterable[str] = (),
        metrics: Iterable[str] = (),
        max_metrics: int = 0,
        snapshot: bool = False,
        revision: str = "",
        timeout: float | None = None,
    ) -> AsyncIterator[messages.WatchRunsResponse]:
        """Runs as they change: of one experiment, of these (at most 100), or all. For ever: leave the loop to end it.

        Each answer holds the runs that changed since the last one, as they are, each once; its `revision`, given to
        another watch of the same runs, goes on after it without a gap. Some answers are empty: the first, and one every
        30 seconds. metrics: only these (at most 100); max_metrics: so many a run (0: 100; negative: none). snapshot:
        begin with the runs as they are now, over several answers.

        A lost connection is made anew, and nothing is missed. timeout: seconds that it may be without one before it
        raises; math.inf: for ever.
        """
        request = watch_request(
            experiment_id,
            run_ids=run_ids,
            metrics=metrics,
            max_metrics=max_metrics,
            snapshot=snapshot,
            revision=revision,
        )
        watch = Watch(request, self._timeout if timeout is None else checked_timeout(timeout))
        while not self._closed.is_set():
            call = self._stub.WatchRuns(watch.request, metadata=self._endpoint.metadata)
            try:
                async for answer in call:
                    watch.received(answer)
                    yield answer
                delay = watch.wait_after_end()
            except grpc.aio.AioRpcError as failure:
                if self._closed.is_set():
                    break
                delay = watch.wait_after(failure)
            except asyncio.CancelledError:
                # As in _call.
                task = asyncio.current_task()
                if self._closed.is_set() and task is not None and not task.cancelling():
                    break
                raise
            finally:
                call.cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), delay)
        raise ClientClosed

    async def get_dashboard_stats(
        self, *, write_tokens: Iterable[str] = (), timeout: float | None = None
    ) -> messages.GetDashboardStatsResponse:
        """A few numbers over everything."""
        request = messages.GetDashboardStatsRequest(write_tokens=write_tokens)
        return await self._call(self._stub.GetDashboardStats, request, timeout)

    async def get_server_info(self, *, timeout: float | None = None) -> messages.GetServerInfoResponse:
        """The server's version and limits."""
        return await self._call(self._stub.GetServerInfo, messages.GetServerInfoRequest(), timeout)

    @cached_property
    def _stub(self) -> TrackerServiceAsyncStub:
        # Not before the first call: a channel belongs to the loop that runs when it is made.
        self._channel = open_aio_channel(self._endpoint)
        return cast("TrackerServiceAsyncStub", TrackerServiceStub(self._channel))

    async def _pages(
        self, method: grpc.aio.UnaryUnaryMultiCallable[_Paged, _Page], request: _Paged, timeout: float | None
    ) -> AsyncIterator[_Page]:
        more = True
        while more:
            page = await self._call(method, request, timeout)
            more = turn(request, page)
            yield page

    async def _call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response], request: _Request, timeout: float | None
    ) -> _Response:
        attempts = Attempts(request, self._timeout if timeout is None else checked_timeout(timeout))
        while not self._closed.is_set():
            try:
                return await method(request, timeout=attempts.seconds, metadata=self._endpoint.metadata)
            except grpc.aio.AioRpcError as failure:
                if self._closed.is_set():
                    break
                delay = attempts.wait_after(failure)
            except asyncio.CancelledError:
                # Closing a channel cancels its calls, which is not the same as somebody cancelling this task.
                task = asyncio.current_task()
                if self._closed.is_set() and task is not None and not task.cancelling():
                    break
                raise
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), delay)
        raise ClientClosed
