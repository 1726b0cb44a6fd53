"""The attempts of one call within its deadline, for the synchronous and the asynchronous client alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import grpc
from google.protobuf.message import Message

from tracker_client.errors import DeadlineExceeded, TrackerError, error_of
from tracker_client.retry import GiveUp, attempt_seconds, decide, is_repeatable
from tracker_client.settings import BadSetting


def checked_timeout(timeout: float) -> float:
    """The timeout, if it is one: seconds above 0, math.inf for no end. Raises BadSetting."""
    if not timeout > 0:
        raise BadSetting(f"timeout is {timeout!r}; it must be a number of seconds above 0")
    return timeout


class Attempts:
    """Says how long the next attempt may take, and after a failure, how long to wait for it."""

    def __init__(self, request: Message, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        """timeout: seconds for all attempts together; math.inf for no end."""
        self._request = request
        self._clock = clock
        self._end = clock() + timeout
        self._number = 1
        self._previous: TrackerError | None = None

    @property
    def seconds(self) -> float | None:
        """For the next attempt, as grpc wants it: None for no end."""
        seconds = attempt_seconds(self._request, max(0.0, self._end - self._clock()))
        return None if math.isinf(seconds) else seconds

    def wait_after(self, failure: grpc.RpcError) -> float:
        """Seconds to wait before the next attempt. Raises the TrackerError when there is to be none."""
        error = error_of(failure)
        left = self._end - self._clock()
        decision = decide(error, self._number, repeatable=is_repeatable(self._request), left=left)
        if isinstance(decision, GiveUp):
            raise self._last(error) from failure
        self._number += 1
        self._previous = error
        return decision.delay

    def _last(self, error: TrackerError) -> TrackerError:
        """The error to raise: that time ran out says less than what took the time."""
        if self._previous is None or error.reason or not isinstance(error, DeadlineExceeded):
            return error
        text = f"{error.message}, in {self._number} attempts; the last but one: {self._previous.message}"
        return DeadlineExceeded(text, code=error.code)
