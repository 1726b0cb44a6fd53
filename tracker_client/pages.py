"""Answers that come in pages: how to ask for the next one, and how to put those together that belong together."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from tracker.v1 import tracker_service_pb2 as messages

PagedRequest: TypeAlias = (
    messages.GetSummaryRequest
    | messages.GetRunRequest
    | messages.ListExperimentsRequest
    | messages.ListRunsRequest
    | messages.ListMetricsRequest
    | messages.GetMetricHistoryRequest
)
"""A request that is answered page by page."""
PagedResponse: TypeAlias = (
    messages.GetSummaryResponse
    | messages.GetRunResponse
    | messages.ListExperimentsResponse
    | messages.ListRunsResponse
    | messages.ListMetricsResponse
    | messages.GetMetricHistoryResponse
)
"""A page."""
WithMetrics = TypeVar("WithMetrics", messages.GetSummaryResponse, messages.GetRunResponse)


def turn(request: PagedRequest, page: PagedResponse) -> bool:
    """Makes the request the one for the page after this. False when this was the last."""
    if not page.next_page_token:
        return False
    request.page_token = page.next_page_token
    # They were waited for with the first page.
    del request.write_tokens[:]
    return True


def add_page(whole: WithMetrics, page: WithMetrics) -> None:
    """Adds the metrics of a further page to the first one, which keeps everything else."""
    whole.metrics.extend(page.metrics)
    whole.next_page_token = page.next_page_token
