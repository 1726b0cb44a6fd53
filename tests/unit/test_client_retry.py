"""When the client makes a call again: the table of the contract, delays, deadlines, and what must not be sent twice."""

from __future__ import annotations

import math

import grpc
import pytest
from google.protobuf.message import Message

from tests.good_requests import GOOD
from tests.rpc_errors import FakeRpcError
from tracker.v1 import tracker_service_pb2 as public
from tracker_client.call_attempts import Attempts, checked_timeout
from tracker_client.errors import DeadlineExceeded, NotFound, TrackerError, Unavailable
from tracker_client.retry import (
    FIRST_DELAY_SECONDS,
    JITTER,
    MAX_DELAY_SECONDS,
    GiveUp,
    Retry,
    attempt_seconds,
    decide,
    is_repeatable,
)
from tracker_client.settings import BadSetting

_RETRIED = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}


def _never() -> float:
    return 0.0


@pytest.mark.parametrize("code", [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_without_the_services_word_the_code_decides(code: str) -> None:
    error = TrackerError("", code=code)
    assert error.retryable is (code in _RETRIED)
    assert isinstance(decide(error, 1), Retry if code in _RETRIED else GiveUp)


@pytest.mark.parametrize("code", [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_the_services_word_decides_whatever_the_code(code: str) -> None:
    assert isinstance(decide(TrackerError("", code=code, reason="SOME"), 1), GiveUp)
    assert isinstance(decide(TrackerError("", code=code, reason="SOME", retry_after=1.0), 1), Retry)
    assert isinstance(decide(TrackerError("", code=code, retry_after=1.0), 1), Retry)


@pytest.mark.parametrize(
    ("attempt", "retry_after", "delay"),
    [
        (1, None, FIRST_DELAY_SECONDS),
        (2, None, 2 * FIRST_DELAY_SECONDS),
        (4, None, 8 * FIRST_DELAY_SECONDS),
        (7, None, MAX_DELAY_SECONDS),
        (10**9, None, MAX_DELAY_SECONDS),
        (1, 2.0, 2.0),
        (1, 60.0, 60.0),
        (9, 2.0, MAX_DELAY_SECONDS),
        (1, 0.0, FIRST_DELAY_SECONDS),
    ],
)
def test_delays_grow_and_are_never_shorter_than_the_server_says(
    attempt: int, retry_after: float | None, delay: float
) -> None:
    error = TrackerError("", code="UNAVAILABLE", retry_after=retry_after)
    assert decide(error, attempt, chance=_never) == Retry(delay)
    longest = decide(error, attempt, chance=lambda: 1.0)
    assert longest == Retry(delay * (1 + JITTER))
    drawn = {decide(error, attempt) for _ in range(20)}
    assert len(drawn) > 1
    assert all(isinstance(each, Retry) and delay <= each.delay <= delay * (1 + JITTER) for each in drawn)


def test_no_retry_that_would_come_after_the_deadline() -> None:
    error = TrackerError("", code="UNAVAILABLE", reason="SHUTTING_DOWN", retry_after=1.0)
    assert decide(error, 1, left=1.01, chance=_never) == Retry(1.0)
    assert decide(error, 1, left=1.0, chance=_never) == GiveUp()
    assert decide(error, 1, left=-1.0, chance=_never) == GiveUp()


@pytest.mark.parametrize(
    ("reason", "metadata", "retried"),
    [
        ("BROKER_UNAVAILABLE", {"outcome": "not_written"}, True),
        ("BROKER_UNAVAILABLE", {"outcome": "unknown"}, False),
        ("BROKER_UNAVAILABLE", {}, False),
        ("SHUTTING_DOWN", {"outcome": "not_written"}, True),
        ("SHUTTING_DOWN", {}, False),
        ("QUEUE_FULL", {}, False),
        ("TOO_MANY_OUTSTANDING", {}, True),
        ("", {}, False),
    ],
)
def test_what_cannot_be_repeated_is_retried_only_where_nothing_was_written(
    reason: str, metadata: dict[str, str], retried: bool
) -> None:
    error = TrackerError("", code="UNAVAILABLE", reason=reason, metadata=metadata, retry_after=1.0 if reason else None)
    assert isinstance(decide(error, 1, repeatable=False), Retry) is retried
    assert isinstance(decide(error, 1, repeatable=True), Retry)


_PAIRED = ["LogMetric", "LogMetrics", "RunCompleted", "UpdateRun", "UpdateExperiment", "RewindRun", "StopRun"]
_PAIRED += ["DeleteRun", "UndeleteRun", "DeleteExperiment", "UndeleteExperiment"]


@pytest.mark.parametrize("rpc", list(GOOD))
def test_everything_that_says_who_it_is_can_be_repeated(rpc: str) -> None:
    assert is_repeatable(GOOD[rpc])


@pytest.mark.parametrize("rpc", list(GOOD))
def test_writes_without_their_pair_and_starts_without_their_run_cannot(rpc: str) -> None:
    request = type(GOOD[rpc])()
    request.CopyFrom(GOOD[rpc])
    for field in ("writer_id", "sequence"):
        if field in request.DESCRIPTOR.fields_by_name and rpc != "CloseWriter":
            request.ClearField(field)
    assert is_repeatable(request) is (rpc not in _PAIRED)
    for kind in (public.StartRunRequest, public.RewindRunRequest):
        assert not is_repeatable(kind(writer_id="0123456789abcdef", sequence=1))


@pytest.mark.parametrize(
    ("request_", "left", "seconds"),
    [
        (GOOD["GetRun"], 30.0, 30.0),
        (GOOD["LogMetrics"], 30.0, 15.0),
        (GOOD["LogMetrics"], 15.0, 10.0),
        (GOOD["LogMetrics"], 4.0, 4.0),
        (GOOD["Heartbeat"], 120.0, 60.0),
        (public.LogMetricsRequest(run_id="run"), 30.0, 30.0),
        (GOOD["GetRun"], math.inf, math.inf),
        (GOOD["LogMetrics"], math.inf, math.inf),
    ],
)
def test_seconds_of_an_attempt(request_: Message, left: float, seconds: float) -> None:
    assert attempt_seconds(request_, left) == seconds


class Clock:
    """Stands still until told otherwise."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_attempts_share_one_deadline() -> None:
    clock = Clock()
    attempts = Attempts(GOOD["GetRun"], 10.0, clock)
    assert attempts.seconds == 10.0
    clock.now += 4.0
    first = attempts.wait_after(FakeRpcError("UNAVAILABLE", "gone"))
    assert FIRST_DELAY_SECONDS <= first <= FIRST_DELAY_SECONDS * (1 + JITTER)
    assert attempts.seconds == 6.0
    assert attempts.wait_after(FakeRpcError("UNAVAILABLE", "gone")) >= 2 * FIRST_DELAY_SECONDS
    clock.now += 7.0
    assert attempts.seconds == 0.0
    with pytest.raises(Unavailable, match="UNAVAILABLE: gone"):
        attempts.wait_after(FakeRpcError("UNAVAILABLE", "gone"))


def test_attempts_without_a_deadline_go_on() -> None:
    attempts = Attempts(GOOD["LogMetrics"], math.inf)
    for _ in range(2_000):
        assert attempts.wait_after(FakeRpcError("UNAVAILABLE")) <= MAX_DELAY_SECONDS * (1 + JITTER)
    assert attempts.seconds is None


def test_an_error_that_stays_ends_the_call_at_once() -> None:
    attempts = Attempts(GOOD["GetRun"], 10.0)
    with pytest.raises(NotFound) as caught:
        attempts.wait_after(FakeRpcError("NOT_FOUND", "no run"))
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_a_deadline_that_passes_tells_what_took_the_time() -> None:
    clock = Clock()
    attempts = Attempts(GOOD["GetRun"], 10.0, clock)
    attempts.wait_after(FakeRpcError("UNAVAILABLE", "connection refused"))
    clock.now += 10.0
    with pytest.raises(DeadlineExceeded, match=r"no answer in time, in 2 attempts; .*: connection refused"):
        attempts.wait_after(FakeRpcError("DEADLINE_EXCEEDED", "Deadline Exceeded"))


@pytest.mark.parametrize("timeout", [0.0, -1.0, math.nan, -math.inf])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(BadSetting, match=f"timeout is {timeout}; it must be a number of seconds above 0"):
        checked_timeout(timeout)
