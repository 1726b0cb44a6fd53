"""One watch over all its connections, for the synchronous and the asynchronous client alike: what to ask for next."""

from __future__ import annotations

from collections.abc import Iterable

import grpc

from tracker.v1 import tracker_service_pb2 as messages
from tracker_client.call_attempts import Attempts
from tracker_client.retry import FIRST_DELAY_SECONDS


class Watch:
    """Remembers how far the caller has come, so that a new connection goes on from there."""

    def __init__(self, request: messages.WatchRunsRequest, timeout: float) -> None:
        """timeout: seconds that it may be without an answer before it fails; math.inf: for ever."""
        self.request = request
        """What to ask for with the next connection."""
        self._timeout = timeout
        self._attempts = Attempts(request, timeout)

    def received(self, answer: messages.WatchRunsResponse) -> None:
        """An answer has come: the next connection goes on after it."""
        self.request.revision = answer.revision
        self._attempts = Attempts(self.request, self._timeout)

    def wait_after(self, failure: grpc.RpcError) -> float:
        """Seconds to wait before connecting again. Raises the TrackerError when that is of no use, or too late."""
        return self._attempts.wait_after(failure)

    def wait_after_end(self) -> float:
        """The same after a stream that ended without an error, as a proxy may end it."""
        return FIRST_DELAY_SECONDS


def watch_request(
    experiment_id: str,
    *,
    run_ids: Iterable[str],
    metrics: Iterable[str],
    max_metrics: int,
    snapshot: bool,
    revision: str,
) -> messages.WatchRunsRequest:
    """The request of a watch. A string where a list is wanted is a list of one."""
    return messages.WatchRunsRequest(
        run_ids=[run_ids] if isinstance(run_ids, str) else run_ids,
        experiment_id=experiment_id,
        revision=revision,
        snapshot=snapshot,
        metrics=[metrics] if isinstance(metrics, str) else metrics,
        max_metrics=max_metrics,
    )
