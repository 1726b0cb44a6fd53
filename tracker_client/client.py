"""The client for services, synchronous: one method for each RPC, with deadlines, retries and typed errors.

Its twin for asyncio is in aio.py; what they decide is in retry.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from tracker.v1 import tracker_service_pb2 as messages
from tracker.v1.resources_pb2 import Experiment, ListedMetric, MetricSeries, MetricSummary, Run, RunMetrics, RunStatus
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_client.call_attempts import Attempts, checked_timeout
from tracker_client.channel import open_channel
from tracker_client.endpoint import endpoint
from tracker_client.errors import ClientClosed
from tracker_client.history import Series, SeriesBuilder, history_request
from tracker_client.pages import PagedRequest, PagedResponse, add_page, turn
from tracker_client.watch import Watch, watch_request

DEFAULT_TIMEOUT_SECONDS = 30.0
"""How long a call may take, retries included, where nothing else is said."""

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)
_Paged = TypeVar("_Paged", bound=PagedRequest)
_Page = TypeVar("_Page", bound=PagedResponse)


class TrackerClient:
    """Calls of the service. May be used by any number of threads.

    Write methods take the request's message, read methods plain arguments. Every method takes `timeout`, the seconds
    that it may take, retries included; where the answer has pages, each of them. Every method raises TrackerError:
    what can be retried without harm was retried for so long.
    """

    def __init__(
        self, server: str | None = None, *, api_key: str | None = None, timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> None:
        """server: HOST:PORT, with https:// before it for TLS; None: TRACKER_SERVER, else 127.0.0.1:50051.

        api_key: None: TRACKER_API_KEY, else none. timeout: of calls that name none. Connects when first used. Raises
        BadSetting.
        """
        self._endpoint = endpoint(server, api_key)
        self._timeout = checked_timeout(timeout)
        self._channel = open_channel(self._endpoint)
        self._stub = TrackerServiceStub(self._channel)
        self._closed = threading.Event()

    @property
    def server(self) -> str:
        """HOST:PORT."""
        return self._endpoint.target

    def close(self) -> None:
        """Ends the connection; calls under way raise ClientClosed. May be repeated."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start_run(
        self, request: messages.StartRunRequest, *, timeout: float | None = None
    ) -> messages.StartRunResponse:
        """Starts a run, or a new attempt of one. Safe to retry when it names its run."""
        return self._call(self._stub.StartRun, request, timeout)

    def log_metric(
        self, request: messages.LogMetricRequest, *, timeout: float | None = None
    ) -> messages.LogMetricResponse:
        """Logs one point."""
        return self._call(self._stub.LogMetric, request, timeout)

    def log_metrics(
        self, request: messages.LogMetricsRequest, *, timeout: float | None = None
    ) -> messages.LogMetricsResponse:
        """Logs many points, in columns."""
        return self._call(self._stub.LogMetrics, request, timeout)

    def close_writer(
        self, request: messages.CloseWriterRequest, *, timeout: float | None = None
    ) -> messages.CloseWriterResponse:
        """Says which sequence was a writer's last."""
        return self._call(self._stub.CloseWriter, request, timeout)

    def run_completed(
        self, request: messages.RunCompletedRequest, *, timeout: float | None = None
    ) -> messages.RunCompletedResponse:
        """Ends an attempt of a run."""
        return self._call(self._stub.RunCompleted, request, timeout)

    def heartbeat(
        self, request: messages.HeartbeatRequest, *, timeout: float | None = None
    ) -> messages.HeartbeatResponse:
        """Says that a run is alive, and hears whether it should stop."""
        return self._call(self._stub.Heartbeat, request, timeout)

    def update_run(
        self, request: messages.UpdateRunRequest, *, timeout: float | None = None
    ) -> messages.UpdateRunResponse:
        """Changes what people may change of a run, or asks it to stop."""
        return self._call(self._stub.UpdateRun, request, timeout)

    def update_experiment(
        self, request: messages.UpdateExperimentRequest, *, timeout: float | None = None
    ) -> messages.UpdateExperimentResponse:
        """Changes an experiment; makes it if it is not there."""
        return self._call(self._stub.UpdateExperiment, request, timeout)

    def rewind_run(
        self, request: messages.RewindRunRequest, *, timeout: float | None = None
    ) -> messages.RewindRunResponse:
        """Goes on from a checkpoint: a new attempt, and what earlier ones logged beyond it is superseded. Safe to retry when
        it names its attempt and bears the pair.
        """
        return self._call(self._stub.RewindRun, request, timeout)

    def stop_run(self, request: messages.StopRunRequest, *, timeout: float | None = None) -> messages.StopRunResponse:
        """Asks a run to stop, or takes that back; its next heartbeat is told."""
        return self._call(self._stub.StopRun, request, timeout)

    def delete_run(
        self, request: messages.DeleteRunRequest, *, timeout: float | None = None
    ) -> messages.DeleteRunResponse:
        """Hides a run at once; it can be restored for a while."""
        return self._call(self._stub.DeleteRun, request, timeout)

    def undelete_run(
        self, request: messages.UndeleteRunRequest, *, timeout: float | None = None
    ) -> messages.UndeleteRunResponse:
        """Restores a deleted run."""
        return self._call(self._stub.UndeleteRun, request, timeout)

    def delete_experiment(
        self, request: messages.DeleteExperimentRequest, *, timeout: float | None = None
    ) -> messages.DeleteExperimentResponse:
        """Hides an experiment and its runs at once; they can be restored for a while."""
        return self._call(self._stub.DeleteExperiment, request, timeout)

    def undelete_experiment(
        self, request: messages.UndeleteExperimentRequest, *, timeout: float | None = None
    ) -> messages.UndeleteExperimentResponse:
        """Restores a deleted experiment."""
        return self._call(self._stub.UndeleteExperiment, request, timeout)

    def get_summary(
        self, experiment_id: str, *, write_tokens: Iterable[str] = (), timeout: float | None = None
    ) -> messages.GetSummaryResponse:
        """An experiment at a glance, with all of its metrics. Raises NotFound."""
        request = messages.GetSummaryRequest(experiment_id=experiment_id, write_tokens=write_tokens)
        whole = self._call(self._stub.GetSummary, request, timeout)
        while turn(request, whole):
            add_page(whole, self._call(self._stub.GetSummary, request, timeout))
        return whole

    def get_run(
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
        whole = self._call(self._stub.GetRun, request, timeout)
        while turn(request, whole):
            add_page(whole, self._call(self._stub.GetRun, request, timeout))
        return whole

    def list_experiments(
        self,
        *,
        show_deleted: bool = False,
        page_size: int = 0,
        write_tokens: Iterable[str] = (),
        timeout: float | None = None,
    ) -> Iterator[Experiment]:
        """All experiments, newest first. show_deleted: deleted ones too, as long as they can be restored."""
        request = messages.ListExperimentsRequest(
            show_deleted=show_deleted, page_size=page_size, write_tokens=write_tokens
        )
        for page in self._pages(self._stub.ListExperiments, request, timeout):
            yield from page.experiments

    def list_runs(
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
    ) -> Iterator[Run]:
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
        for page in self._pages(self._stub.ListRuns, request, timeout):
            yield from page.runs

    def list_runs_with_metrics(
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
    ) -> Iterator[tuple[Run, dict[str, MetricSummary]]]:
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
        for page in self._pages(self._stub.ListRuns, request, timeout):
            for run, own in zip(page.runs, page.run_metrics or [RunMetrics()] * len(page.runs), strict=True):
                yield run, {metric.name: metric for metric in own.metrics}

    def list_metrics(
        self,
        experiment_id: str = "",
        *,
        prefix: str = "",
        page_size: int = 0,
        write_tokens: Iterable[str] = (),
        timeout: float | None = None,
    ) -> Iterator[ListedMetric]:
        """The metrics of an experiment, or of all, whose names begin with the prefix, sorted by name."""
        request = messages.ListMetricsRequest(
            experiment_id=experiment_id, prefix=prefix, page_size=page_size, write_tokens=write_tokens
        )
        for page in self._pages(self._stub.ListMetrics, request, timeout):
            yield from page.metrics

    def iter_metric_history(
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
    ) -> Iterator[MetricSeries]:
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
        for page in self._pages(self._stub.GetMetricHistory, request, timeout):
            yield from page.series

    def get_metric_history(
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
        for page in self._pages(self._stub.GetMetricHistory, request, timeout):
            for part in page.series:
                builder.add(part)
        return builder.finish()

    def watch_runs(
        self,
        experiment_id: str = "",
        *,
        run_ids: Iterable[str] = (),
        metrics: Iterable[str] = (),
        max_metrics: int = 0,
        snapshot: bool = False,
        revision: str = "",
        timeout: float | None = None,
    ) -> Iterator[messages.WatchRunsResponse]:
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
                for answer in call:
                    watch.received(answer)
                    yield answer
                delay = watch.wait_after_end()
            except grpc.RpcError as failure:
                if self._closed.is_set():
                    break
                delay = watch.wait_after(failure)
            finally:
                call.cancel()
            self._closed.wait(delay)
        raise ClientClosed

    def get_dashboard_stats(
        self, *, write_tokens: Iterable[str] = (), timeout: float | None = None
    ) -> messages.GetDashboardStatsResponse:
        """A few numbers over everything."""
        request = messages.GetDashboardStatsRequest(write_tokens=write_tokens)
        return self._call(self._stub.GetDashboardStats, request, timeout)

    def get_server_info(self, *, timeout: float | None = None) -> messages.GetServerInfoResponse:
        """The server's version and limits."""
        return self._call(self._stub.GetServerInfo, messages.GetServerInfoRequest(), timeout)

    def _pages(
        self, method: grpc.UnaryUnaryMultiCallable[_Paged, _Page], request: _Paged, timeout: float | None
    ) -> Iterator[_Page]:
        more = True
        while more:
            page = self._call(method, request, timeout)
            more = turn(request, page)
            yield page

    def _call(
        self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request, timeout: float | None
    ) -> _Response:
        attempts = Attempts(request, self._timeout if timeout is None else checked_timeout(timeout))
        while not self._closed.is_set():
            try:
                return method(request, timeout=attempts.seconds, metadata=self._endpoint.metadata)
            except grpc.RpcError as failure:
                if self._closed.is_set():
                    break
                delay = attempts.wait_after(failure)
            self._closed.wait(delay)
        raise ClientClosed
