"""Calls to a server with ready-made requests, answered through a queue. The one file of the sender that knows grpc."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

import grpc

from tracker.v1 import tracker_service_pb2 as calls
from tracker_client.channel import open_channel
from tracker_client.endpoint import Endpoint
from tracker_client.errors import TrackerError, error_of

CALL_SECONDS: Final = 30.0
"""Deadline of a call: longer than a server waits for its broker."""
_SERVICE: Final = calls.DESCRIPTOR.services_by_name["TrackerService"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call."""

    handle: Callable[[Answer], None]
    """Who asked."""
    body: bytes = b""
    """The encoded response."""
    error: TrackerError | None = None


class Transport:
    """A connection to one server. Every call after a lost one makes it anew: when to try is the caller's business, and grpc has
    pauses of its own, in which it would fail at once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._channel = open_channel(endpoint, own_connection=True)
        self._methods: dict[str, Any] = {}
        self._under_way = 0
        self._lost = False
        self._answers: SimpleQueue[Answer] = SimpleQueue()

    def call(self, method: str, request: bytes, handle: Callable[[Answer], None]) -> None:
        """Sends a request. The answer waits in the queue until somebody takes it."""
        if self._lost and not self._under_way:
            self._reopen()
        if method not in self._methods:
            self._methods[method] = self._channel.unary_unary(f"/{_SERVICE.full_name}/{method}")
        future = self._methods[method].future(request, timeout=CALL_SECONDS, metadata=self._endpoint.metadata)
        self._under_way += 1
        future.add_done_callback(lambda done: self._answers.put(_answer(done, handle)))

    def next_answer(self, seconds: float) -> Answer | None:
        """The next answer, or None when there is none within so many seconds."""
        try:
            answer = self._answers.get(timeout=seconds) if seconds > 0 else self._answers.get_nowait()
        except Empty:
            return None
        self._under_way -= 1
        # The service names a reason; without one it is grpc that has no connection.
        self._lost = answer.error is not None and answer.error.code == "UNAVAILABLE" and not answer.error.reason
        return answer

    def close(self) -> None:
        """Ends every call, and the connection."""
        self._channel.close()

    def _reopen(self) -> None:
        self._channel.close()
        self._channel = open_channel(self._endpoint, own_connection=True)
        self._methods.clear()
        self._lost = False


def _answer(done: Any, handle: Callable[[Answer], None]) -> Answer:
    if done.cancelled():
        return Answer(handle, error=TrackerError("the call was ended", code="CANCELLED"))
    error = done.exception()
    if error is None:
        return Answer(handle, body=done.result())
    return Answer(handle, error=error_of(error) if isinstance(error, grpc.RpcError) else TrackerError(str(error)))
