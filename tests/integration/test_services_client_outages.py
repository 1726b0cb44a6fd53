"""What both clients do when the server refuses, hangs, is not there, or comes back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.both_clients import KINDS, Caller, calling
from tests.e2e.deployment import Deployment
from tests.good_requests import GOOD
from tests.grpc_front import Front, running_front
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client import errors
from tracker_client.call_attempts import Attempts
from tracker_server.errors import BrokerUnavailable, TooManyOutstanding

_HALF = 0.5
"""What does not wait for something to come is over in half the time until it comes; else it would take all of it."""
_PLAIN = messages.LogMetricRequest(run_id="run", name="loss", value=0.5)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Both clients, one after the other."""
    return str(request.param)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with running_front() as front:
        front.publisher.held = True
        yield front


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """An embedded tracker, not started."""
    made = Deployment(tmp_path / "tracker", api_keys="swordfish, marlin")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who accepts connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def _begin(caller: Caller, method: str, *arguments: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(caller.call(method, *arguments, **options))


def _much_later() -> BrokerUnavailable:
    """What asks for half a minute's patience."""
    error = BrokerUnavailable(outcome="unknown")
    error.retry_after = 30.0
    return error


async def _lateness(seconds: float) -> float:
    """By how many seconds a thread that sleeps so long, and this loop after it, wake up too late just now."""
    began = time.monotonic()
    await asyncio.to_thread(time.sleep, seconds)
    return time.monotonic() - began - seconds


async def test_a_write_that_says_who_it_is_is_sent_again(kind: str, front: Front) -> None:
    async with calling(kind, front.address) as caller:
        call = _begin(caller, "log_metric", GOOD["LogMetric"])
        await front.publisher.until_published(1)
        front.publisher.fail(BrokerUnavailable(outcome="unknown"))
        began = time.monotonic()
        await front.publisher.until_published(2)
        assert time.monotonic() - began >= 0.99, "RetryInfo says one second"
        front.publisher.release()
        assert (await call).write_token
    first, second = front.publisher.writes
    assert (first.writer_id, first.sequence) == (second.writer_id, second.sequence)


async def test_a_write_that_does_not_is_sent_again_only_when_nothing_was_written(kind: str, front: Front) -> None:
    async with calling(kind, front.address) as caller:
        call = _begin(caller, "log_metric", _PLAIN)
        await front.publisher.until_published(1)
        front.publisher.fail(TooManyOutstanding())
        await front.publisher.until_published(2)
        front.publisher.fail(BrokerUnavailable(outcome="unknown"))
        with pytest.raises(errors.Unavailable) as caught:
            await call
    assert (caught.value.reason, caught.value.metadata) == ("BROKER_UNAVAILABLE", {"outcome": "unknown"})
    assert caught.value.retryable, "by a caller who does not mind to write it twice"
    assert len(front.publisher.messages) == 2


async def test_no_retry_beyond_the_deadline(kind: str, front: Front) -> None:
    async with calling(kind, front.address, timeout=20) as caller:
        call = _begin(caller, "log_metric", GOOD["LogMetric"])
        await front.publisher.until_published(1)
        front.publisher.fail(_much_later())
        began = time.monotonic()
        with pytest.raises(errors.Unavailable):
            await call
        assert time.monotonic() - began < _HALF * 20, "it does not wait for what would come too late"
    assert len(front.publisher.messages) == 1


async def test_somebody_who_never_answers_costs_the_deadline_and_no_more(kind: str, silent: str) -> None:
    async with calling(kind, silent) as caller:
        began = time.monotonic()
        late = asyncio.create_task(_lateness(0.5))
        with pytest.raises(errors.DeadlineExceeded, match="no answer in time"):
            await caller.call("get_server_info", timeout=0.5)
        took = time.monotonic() - began
        assert 0.4 < took < 2 + await late


async def test_closing_ends_calls_under_way(kind: str, front: Front) -> None:
    async with calling(kind, front.address) as caller:
        call = _begin(caller, "log_metric", GOOD["LogMetric"])
        await front.publisher.until_published(1)
        await caller.call("close")
        with pytest.raises(errors.ClientClosed):
            await asyncio.wait_for(call, 5)


async def test_closing_ends_waiting_for_a_retry(kind: str, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()
    wait_after = Attempts.wait_after

    def noted(attempts: Attempts, failure: grpc.RpcError) -> float:
        delay = wait_after(attempts, failure)
        failed.set()
        return delay

    monkeypatch.setattr(Attempts, "wait_after", noted)
    async with calling(kind, front.address, timeout=60) as caller:
        call = _begin(caller, "log_metric", GOOD["LogMetric"])
        await front.publisher.until_published(1)
        front.publisher.fail(_much_later())
        assert await asyncio.to_thread(failed.wait, 5)
        await caller.call("close")
        with pytest.raises(errors.ClientClosed):
            await asyncio.wait_for(call, _HALF * 30)
    assert len(front.publisher.messages) == 1


async def test_cancelling_an_asynchronous_call_is_no_error_of_the_client(front: Front) -> None:
    async with calling("async", front.address) as caller:
        call = _begin(caller, "log_metric", GOOD["LogMetric"])
        await front.publisher.until_published(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        front.publisher.release()
        assert (await caller.call("log_metric", GOOD["LogMetric"])).write_token


async def test_a_server_that_is_not_there_is_named_within_the_deadline(kind: str) -> None:
    async with calling(kind, "127.0.0.1:1") as caller:
        began = time.monotonic()
        late = asyncio.create_task(_lateness(0.5))
        with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:1: .*Connection refused"):
            await caller.call("get_server_info", timeout=0.5)
        took = time.monotonic() - began
        assert took < 2 + await late
        began = time.monotonic()
        with pytest.raises(errors.Unavailable):
            await caller.call("log_metric", _PLAIN, timeout=20)
        assert time.monotonic() - began < _HALF * 20, "what must not be sent twice is not retried"


async def test_a_server_that_comes_up_hangs_and_comes_back(kind: str, deployment: Deployment) -> None:
    server = deployment.add("up")
    async with calling(kind, server.address, api_key="marlin") as caller:
        call = _begin(caller, "log_metric", GOOD["LogMetric"])
        await asyncio.to_thread(server.launch)
        assert (await call).write_token
        server.pause()
        with pytest.raises(errors.DeadlineExceeded, match="no answer in time"):
            await caller.call("get_run", "run", timeout=0.5)
        server.resume()
        assert (await caller.call("get_run", "run")).metrics[0].count == 1
        server.kill()
        call = _begin(caller, "log_metric", GOOD["LogMetric"])
        await asyncio.to_thread(server.launch)
        token = (await call).write_token
        assert (await caller.call("get_run", "run", write_tokens=[token])).metrics[0].count == 1, "a retry, stored once"


async def test_a_server_with_keys(deployment: Deployment) -> None:
    server = await asyncio.to_thread(deployment.add("up").start)  # its health checks bear no key
    for kind in KINDS:
        for api_key, reason in (("", "UNAUTHENTICATED"), ("herring", "INVALID_API_KEY")):
            async with calling(kind, server.address, api_key=api_key) as caller:
                with pytest.raises(errors.Unauthenticated, match="API key") as caught:
                    await caller.call("log_metric", _PLAIN)
                assert (caught.value.reason, caught.value.retryable) == (reason, False)
        for api_key in ("swordfish", "marlin"):
            async with calling(kind, server.address, api_key=api_key) as caller:
                assert (await caller.call("get_server_info")).embedded
    assert not any(key in server.log for key in ("swordfish", "marlin", "herring"))
