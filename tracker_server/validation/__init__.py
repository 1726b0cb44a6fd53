"""Checks requests: every violation of every rule at once, in the caller's terms.

The rules are those of the comments in the protos, with the numbers of `limits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.message import Message

from tracker.v1 import tracker_service_pb2 as public
from tracker_server import limits
from tracker_server.errors import RequestTooLarge
from tracker_server.validation import reads, writes
from tracker_server.validation.violations import Violations


def validate(request: Message) -> None:
    """Raises InvalidRequest with everything that is wrong with a request of the service.

    Its size is check_size's business: it can be judged before the request is decoded.
    """
    violations = Violations()
    CHECKS[type(request)](violations, request)
    violations.raise_if_any()


def check_size(size: int) -> None:
    """Raises RequestTooLarge for a request of more bytes than are taken."""
    if size > limits.MAX_REQUEST_BYTES:
        message = (
            f"The request has {size} bytes; at most {limits.MAX_REQUEST_BYTES} are taken: split it into several, "
            "each with a sequence of its own."
        )
        raise RequestTooLarge(message, size=str(size), limit=str(limits.MAX_REQUEST_BYTES))


CHECKS: Final[Mapping[type[Message], Callable[[Violations, Any], None]]] = {
    public.StartRunRequest: writes.start_run,
    public.LogMetricRequest: writes.log_metric,
    public.LogMetricsRequest: writes.log_metrics,
    public.CloseWriterRequest: writes.close_writer,
    public.RunCompletedRequest: writes.run_completed,
    public.HeartbeatRequest: writes.heartbeat,
    public.UpdateRunRequest: writes.update_run,
    public.UpdateExperimentRequest: writes.update_experiment,
    public.RewindRunRequest: writes.rewind_run,
    public.StopRunRequest: writes.stop_run,
    public.DeleteRunRequest: writes.change_run,
    public.UndeleteRunRequest: writes.change_run,
    public.DeleteExperimentRequest: writes.change_experiment,
    public.UndeleteExperimentRequest: writes.change_experiment,
    public.GetSummaryRequest: reads.get_summary,
    public.GetRunRequest: reads.get_run,
    public.ListExperimentsRequest: reads.list_experiments,
    public.ListRunsRequest: reads.list_runs,
    public.ListMetricsRequest: reads.list_metrics,
    public.WatchRunsRequest: reads.watch_runs,
    public.GetMetricHistoryRequest: reads.get_metric_history,
    public.GetDashboardStatsRequest: reads.get_dashboard_stats,
    public.GetServerInfoRequest: reads.get_server_info,
}
"""The check of each request. It adds what is wrong to the violations it is given."""
