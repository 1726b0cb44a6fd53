"""The rules of requests that only ask, one function for each. See `validate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import RunStatus
from tracker_server import limits
from tracker_server.tokens import BadToken, PagedRequest, check_page_token, read_watch_token, read_write_token
from tracker_server.validation.fields import (
    check_attempt,
    check_display_name,
    check_id,
    check_name,
    check_not_negative,
    check_text,
    check_unique,
)
from tracker_server.validation.search import check_search
from tracker_server.validation.violations import Violations, shown


def get_summary(violations: Violations, request: public.GetSummaryRequest) -> None:
    """GetSummary."""
    check_id(violations, "experiment_id", request.experiment_id)
    _check_page(violations, request)


def get_run(violations: Violations, request: public.GetRunRequest) -> None:
    """GetRun."""
    check_id(violations, "run_id", request.run_id)
    _check_page(violations, request)


def list_experiments(violations: Violations, request: public.ListExperimentsRequest) -> None:
    """ListExperiments."""
    _check_page(violations, request)


def list_runs(violations: Violations, request: public.ListRunsRequest) -> None:
    """ListRuns."""
    check_id(violations, "experiment_id", request.experiment_id, optional=True)
    for index, status in enumerate(request.statuses):
        if status not in _STORED:
            violations.add(
                f"statuses[{index}]",
                f"is {status}; it must be one of {', '.join(RunStatus.Name(known) for known in _STORED)}",
            )
    for field in ("filter", "order_by"):
        check_text(violations, field, getattr(request, field), limits.MAX_FILTER_LENGTH)
    if max(len(request.filter), len(request.order_by)) <= limits.MAX_FILTER_LENGTH:
        check_search(violations, request.filter, request.order_by)
    _check_selection(violations, "metrics", request.metrics, check_name, fewest=0)
    _check_page(violations, request)


def list_metrics(violations: Violations, request: public.ListMetricsRequest) -> None:
    """ListMetrics."""
    check_id(violations, "experiment_id", request.experiment_id, optional=True)
    check_display_name(violations, "prefix", request.prefix)
    _check_page(violations, request)


def watch_runs(violations: Violations, request: public.WatchRunsRequest) -> None:
    """WatchRuns."""
    _check_selection(violations, "run_ids", request.run_ids, check_id, fewest=0)
    check_id(violations, "experiment_id", request.experiment_id, optional=True)
    _check_selection(violations, "metrics", request.metrics, check_name, fewest=0)
    if request.revision:
        try:
            read_watch_token(request)
        except BadToken as error:
            violations.add("revision", f"is {shown(request.revision)}; it {error}")


def get_metric_history(violations: Violations, request: public.GetMetricHistoryRequest) -> None:
    """GetMetricHistory."""
    _check_selection(violations, "run_ids", request.run_ids, check_id)
    _check_selection(violations, "metrics", request.metrics, check_name)
    if request.HasField("min_step") and request.HasField("max_step") and request.min_step > request.max_step:
        violations.add("min_step", f"is {request.min_step}, above max_step, which is {request.max_step}")
    if request.max_points and not (
        limits.MIN_DOWNSAMPLED_POINTS <= request.max_points <= limits.MAX_DOWNSAMPLED_POINTS
    ):
        violations.add(
            "max_points",
            f"is {request.max_points}; it must be {limits.MIN_DOWNSAMPLED_POINTS} to {limits.MAX_DOWNSAMPLED_POINTS}, "
            "or 0 for every point",
        )
    check_attempt(violations, request.attempt)
    _check_page(violations, request)


def get_dashboard_stats(violations: Violations, request: public.GetDashboardStatsRequest) -> None:
    """GetDashboardStats."""
    _check_write_tokens(violations, request.write_tokens)


def get_server_info(violations: Violations, request: public.GetServerInfoRequest) -> None:
    """GetServerInfo, which has no fields."""


_STORED = tuple(status for status in RunStatus.values() if status != RunStatus.RUN_STATUS_UNSPECIFIED)


def _check_selection(
    violations: Violations,
    field: str,
    values: Sequence[str],
    check: Callable[[Violations, str, str], None],
    *,
    fewest: int = 1,
) -> None:
    if not fewest <= len(values) <= limits.MAX_HISTORY_SELECTION:
        violations.add(field, f"has {len(values)} entries; it must have {fewest} to {limits.MAX_HISTORY_SELECTION}")
    for index, value in enumerate(values):
        check(violations, f"{field}[{index}]", value)
    check_unique(violations, field, values)


def _check_page(violations: Violations, request: PagedRequest) -> None:
    check_not_negative(violations, "page_size", request.page_size)
    if request.page_token:
        try:
            token = check_page_token(request)
        except BadToken as error:
            violations.add("page_token", f"is {shown(request.page_token)}; it {error}")
        else:
            if isinstance(request, public.GetMetricHistoryRequest):
                series = len(request.run_ids) * len(request.metrics)
                if token.series_index >= series:
                    violations.add("page_token", f"goes on with series {token.series_index} of {series}")
    _check_write_tokens(violations, request.write_tokens)


def _check_write_tokens(violations: Violations, tokens: Sequence[str]) -> None:
    if len(tokens) > limits.MAX_WRITE_TOKENS:
        violations.add(
            "write_tokens",
            f"has {len(tokens)} tokens; at most {limits.MAX_WRITE_TOKENS} are taken",
        )
    for index, token in enumerate(tokens):
        try:
            read_write_token(token)
        except BadToken as error:
            violations.add(f"write_tokens[{index}]", f"is {shown(token)}; it {error}")
