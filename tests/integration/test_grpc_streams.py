"""WatchRuns as callers see it over a real connection: answers, errors, ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from tests.grpc_front import Front, details_of, fields_of, reason_of, running_front
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_server import errors, tokens

ANSWER = public.WatchRunsResponse(revision="here")


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with running_front() as front:
        front.watches.answers = [ANSWER]
        yield front


@pytest.fixture
async def channel(front: Front) -> AsyncIterator[grpc.aio.Channel]:
    async with front.channel() as channel:
        yield channel


def watch(channel: grpc.aio.Channel, timeout: float | None = None, **request: Any) -> Any:
    """Begins a watch."""
    stub: Any = TrackerServiceStub(channel)
    return stub.WatchRuns(public.WatchRunsRequest(**request), timeout=timeout)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """The error with which a watch ends."""
    async with asyncio.timeout(20):
        while True:
            try:
                answer = await call.read()
            except grpc.aio.AioRpcError as error:
                return error
            assert answer is not grpc.aio.EOF, "ended without an error"


async def freed(front: Front) -> None:
    """Returns when the server has let go of every stream."""
    async with asyncio.timeout(10):
        while front.watches.open:  # noqa: ASYNC110  # the count has no event
            await asyncio.sleep(0.01)


async def test_answers_are_streamed_as_they_come(front: Front, channel: grpc.aio.Channel) -> None:
    call = watch(channel, experiment_id="e", snapshot=True)
    assert await call.read() == ANSWER
    assert front.watches.requests == [public.WatchRunsRequest(experiment_id="e", snapshot=True)]
    call.cancel()
    await freed(front)


async def test_errors_come_with_their_details(front: Front, channel: grpc.aio.Channel) -> None:
    front.watches.error = errors.TooManyWatchers("no more", limit="7")
    seen = await failure(watch(channel))
    assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS")
    assert details_of(seen, ErrorInfo)[0].metadata == {"limit": "7"}
    assert details_of(seen, RetryInfo)[0].retry_delay.seconds == 5


async def test_a_bug_tells_nothing_but_an_id(front: Front, channel: grpc.aio.Channel) -> None:
    front.watches.error = RuntimeError("the password is swordfish")
    seen = await failure(watch(channel))
    assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "swordfish" not in str(seen.details())


OTHER = public.WatchRunsRequest(experiment_id="other")
TOKEN = tokens.watch_token(internal.WatchToken(revisions=[1], request_hash=tokens.watch_hash(OTHER)))


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"run_ids": ["bad id"]}, "run_ids[0]"),
        ({"run_ids": ["run"] * 101}, "run_ids"),
        ({"revision": "nonsense"}, "revision"),
        ({"revision": "AAAA" * 2_000}, "revision"),
        ({"revision": TOKEN}, "revision"),
        ({"metrics": [""]}, "metrics[0]"),
    ],
)
async def test_a_wrong_request_is_refused_before_anything_is_read(
    front: Front, channel: grpc.aio.Channel, request_fields: dict[str, Any], field: str
) -> None:
    seen = await failure(watch(channel, **request_fields))
    assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert field in fields_of(seen)
    assert front.watches.requests == []


async def test_bytes_that_are_no_request_are_the_callers_mistake(channel: grpc.aio.Channel) -> None:
    raw: Any = channel.unary_stream("/tracker.v1.TrackerService/WatchRuns")
    seen = await failure(raw(b"\xff\xff\xff"))
    assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_a_stream_needs_a_key_where_there_are_keys() -> None:
    async with running_front(api_keys=["swordfish"]) as front, front.channel() as channel:
        front.watches.answers = [ANSWER]
        assert reason_of(await failure(watch(channel))) == "UNAUTHENTICATED"
        stub: Any = TrackerServiceStub(channel)
        call = stub.WatchRuns(public.WatchRunsRequest(), metadata=(("authorization", "Bearer swordfish"),))
        assert await call.read() == ANSWER
        call.cancel()


async def test_a_stop_ends_streams_at_once_and_says_when_to_come_back(front: Front, channel: grpc.aio.Channel) -> None:
    call = watch(channel)
    assert await call.read() == ANSWER
    began = time.monotonic()
    stopping = asyncio.create_task(front.server.stop(10))
    seen = await failure(call)
    assert time.monotonic() - began < 2
    assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert details_of(seen, RetryInfo)
    await stopping
    assert front.watches.open == 0


async def test_a_deadline_ends_a_stream_and_frees_it(front: Front, channel: grpc.aio.Channel) -> None:
    seen = await failure(watch(channel, timeout=0.3))
    assert seen.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await freed(front)


async def test_what_a_caller_does_not_take_is_not_sent(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = 0

    async def flood(_: public.WatchRunsRequest, send: Callable[[public.WatchRunsResponse], Awaitable[None]]) -> None:
        nonlocal sent
        while True:
            await send(public.WatchRunsResponse(revision="x" * 20_000))
            sent += 1

    monkeypatch.setattr(front.watches, "watch", flood)
    # Else gRPC makes the window wider the faster the bytes come, to megabytes.
    async with front.channel(("grpc.http2.bdp_probe", 0)) as channel:
        call = watch(channel)
        await call.read()
        before = -1
        async with asyncio.timeout(20):
            while sent != before:
                before = sent
                await asyncio.sleep(0.5)
        # HTTP/2's window of a stream, 65,535 bytes, and the message that was read: five in all. Twice that is the bound.
        assert sent * 20_000 < 2 * (65_535 + 20_000)
        call.cancel()
