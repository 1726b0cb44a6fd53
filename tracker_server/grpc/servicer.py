"""What each RPC does: check, stamp, submit and answer with a token; or check and read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import Limits
from tracker_server import limits, tokens
from tracker_server.grpc.reads_port import Reads, Watches
from tracker_server.heartbeats import Heartbeats
from tracker_server.identity import Identity, WriteRequest
from tracker_server.ingest import Ingest
from tracker_server.model.leases import DEFAULT_LEASE, Lease
from tracker_server.validation import validate


class Servicer:
    """TrackerService. One method for each RPC, named as it is in lower case.

    deadline: seconds that are left to answer, None when the caller set none. Every method raises InvalidRequest;
    writes raise what Ingest.submit raises, reads what Reads raises.
    """

    def __init__(
        self,
        *,
        ingest: Ingest,
        identity: Identity,
        heartbeats: Heartbeats,
        reads: Reads,
        watches: Watches,
        version: str,
        embedded: bool,
        lease: Lease = DEFAULT_LEASE,
    ) -> None:
        self._ingest = ingest
        self._identity = identity
        self._heartbeats = heartbeats
        self._reads = reads
        self._watches = watches
        self._info = public.GetServerInfoResponse(
            version=version, limits=advertised_limits(lease), embedded=embedded
        ).SerializeToString()

    async def start_run(self, request: public.StartRunRequest, deadline: float | None) -> public.StartRunResponse:
        """Starts a run, with an id of the server's making where the caller gives none."""
        token = await self._write(request, deadline)
        return public.StartRunResponse(run_id=request.run_id, write_token=token)

    async def log_metric(self, request: public.LogMetricRequest, deadline: float | None) -> public.LogMetricResponse:
        """Logs one point."""
        return public.LogMetricResponse(write_token=await self._write(request, deadline))

    async def log_metrics(self, request: public.LogMetricsRequest, deadline: float | None) -> public.LogMetricsResponse:
        """Logs many points."""
        return public.LogMetricsResponse(write_token=await self._write(request, deadline))

    async def close_writer(
        self, request: public.CloseWriterRequest, deadline: float | None
    ) -> public.CloseWriterResponse:
        """Notes a writer's last sequence."""
        await self._write(request, deadline)
        return public.CloseWriterResponse(write_token=tokens.close_token(request))

    async def run_completed(
        self, request: public.RunCompletedRequest, deadline: float | None
    ) -> public.RunCompletedResponse:
        """Ends an attempt."""
        return public.RunCompletedResponse(write_token=await self._write(request, deadline))

    async def heartbeat(self, request: public.HeartbeatRequest, deadline: float | None) -> public.HeartbeatResponse:
        """Keeps a lease."""
        validate(request)
        return await self._heartbeats.beat(request, deadline)

    async def update_run(self, request: public.UpdateRunRequest, deadline: float | None) -> public.UpdateRunResponse:
        """Changes a run."""
        return public.UpdateRunResponse(write_token=await self._write(request, deadline))

    async def update_experiment(
        self, request: public.UpdateExperimentRequest, deadline: float | None
    ) -> public.UpdateExperimentResponse:
        """Changes an experiment."""
        return public.UpdateExperimentResponse(write_token=await self._write(request, deadline))

    async def rewind_run(self, request: public.RewindRunRequest, deadline: float | None) -> public.RewindRunResponse:
        """Opens an attempt that goes on from a checkpoint, with a number of the server's making where the caller gives none."""
        token = await self._write(request, deadline)
        return public.RewindRunResponse(attempt=request.attempt, write_token=token)

    async def stop_run(self, request: public.StopRunRequest, deadline: float | None) -> public.StopRunResponse:
        """Asks a run to stop."""
        return public.StopRunResponse(write_token=await self._write(request, deadline))

    async def delete_run(self, request: public.DeleteRunRequest, deadline: float | None) -> public.DeleteRunResponse:
        """Hides a run."""
        return public.DeleteRunResponse(write_token=await self._write(request, deadline))

    async def undelete_run(
        self, request: public.UndeleteRunRequest, deadline: float | None
    ) -> public.UndeleteRunResponse:
        """Restores a run."""
        return public.UndeleteRunResponse(write_token=await self._write(request, deadline))

    async def delete_experiment(
        self, request: public.DeleteExperimentRequest, deadline: float | None
    ) -> public.DeleteExperimentResponse:
        """Hides an experiment."""
        return public.DeleteExperimentResponse(write_token=await self._write(request, deadline))

    async def undelete_experiment(
        self, request: public.UndeleteExperimentRequest, deadline: float | None
    ) -> public.UndeleteExperimentResponse:
        """Restores an experiment."""
        return public.UndeleteExperimentResponse(write_token=await self._write(request, deadline))

    async def get_summary(
        self, request: public.GetSummaryRequest, deadline: float | None
    ) -> public.GetSummaryResponse | bytes:
        """An experiment at a glance."""
        validate(request)
        return await self._reads.get_summary(request, deadline)

    async def get_run(self, request: public.GetRunRequest, deadline: float | None) -> public.GetRunResponse | bytes:
        """A run."""
        validate(request)
        return await self._reads.get_run(request, deadline)

    async def list_experiments(
        self, request: public.ListExperimentsRequest, deadline: float | None
    ) -> public.ListExperimentsResponse | bytes:
        """Experiments."""
        validate(request)
        return await self._reads.list_experiments(request, deadline)

    async def list_runs(
        self, request: public.ListRunsRequest, deadline: float | None
    ) -> public.ListRunsResponse | bytes:
        """Runs."""
        validate(request)
        return await self._reads.list_runs(request, deadline)

    async def list_metrics(
        self, request: public.ListMetricsRequest, deadline: float | None
    ) -> public.ListMetricsResponse | bytes:
        """Names of metrics."""
        validate(request)
        return await self._reads.list_metrics(request, deadline)

    async def get_metric_history(
        self, request: public.GetMetricHistoryRequest, deadline: float | None
    ) -> public.GetMetricHistoryResponse | bytes:
        """Points."""
        validate(request)
        return await self._reads.get_metric_history(request, deadline)

    async def get_dashboard_stats(
        self, request: public.GetDashboardStatsRequest, deadline: float | None
    ) -> public.GetDashboardStatsResponse | bytes:
        """A few numbers."""
        validate(request)
        return await self._reads.get_dashboard_stats(request, deadline)

    async def watch_runs(
        self, request: public.WatchRunsRequest, send: Callable[[public.WatchRunsResponse], Awaitable[None]]
    ) -> None:
        """Runs as they change, until the caller has seen enough."""
        validate(request)
        await self._watches.watch(request, send)

    async def get_server_info(
        self,
        request: public.GetServerInfoRequest,
        deadline: float | None,  # noqa: ARG002  # every method is called alike
    ) -> bytes:
        """Version and limits."""
        validate(request)
        return self._info

    async def _write(self, request: WriteRequest, deadline: float | None) -> str:
        """Returns the write's token once it is durable."""
        validate(request)
        write = self._identity.stamp(request)
        await self._ingest.submit(write, deadline)
        return tokens.write_token(write)


def advertised_limits(lease: Lease = DEFAULT_LEASE) -> Limits:
    """The limits that clients must know."""
    return Limits(
        max_request_bytes=limits.MAX_REQUEST_BYTES,
        max_points_per_request=limits.MAX_POINTS_PER_REQUEST,
        max_id_length=limits.MAX_ID_LENGTH,
        min_writer_id_length=limits.MIN_WRITER_ID_LENGTH,
        max_name_length=limits.MAX_NAME_LENGTH,
        max_text_length=limits.MAX_TEXT_LENGTH,
        max_config_bytes=limits.MAX_CONFIG_BYTES,
        max_config_depth=limits.MAX_CONFIG_DEPTH,
        max_entries=limits.MAX_ENTRIES,
        max_page_size=limits.MAX_PAGE_SIZE,
        max_history_page_points=limits.MAX_HISTORY_PAGE_POINTS,
        max_history_selection=limits.MAX_HISTORY_SELECTION,
        lease_seconds=lease.seconds,
        heartbeat_seconds=lease.heartbeat_seconds,
        restore_seconds=limits.RESTORE_SECONDS,
        max_filter_length=limits.MAX_FILTER_LENGTH,
    )
