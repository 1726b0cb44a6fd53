"""The gRPC server's life as callers see it: port, health, reflection, stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from tests.grpc_front import Front, failure, log_metric, reason_of, running_front
from tracker_server.errors import BadSetting
from tracker_server.grpc.health import READS, WRITES

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
SERVICE = "tracker.v1.TrackerService"


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with running_front() as front:
        yield front


async def health_of(channel: grpc.aio.Channel) -> dict[str, bool]:
    stub = HealthStub(channel)
    answers = {name: await stub.Check(HealthCheckRequest(service=name)) for name in ("", SERVICE, WRITES, READS)}
    return {name: answer.status == SERVING for name, answer in answers.items()}


async def test_health_follows_writes_and_reads(front: Front) -> None:
    async with front.channel() as channel:
        assert await health_of(channel) == {"": True, SERVICE: True, WRITES: True, READS: True}
        watch = HealthStub(channel).Watch(HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == SERVING
        front.publisher.accepting = False
        async with asyncio.timeout(0.5):
            assert (await watch.read()).status == NOT_SERVING
        assert await health_of(channel) == {"": False, SERVICE: False, WRITES: False, READS: True}
        front.publisher.accepting, front.reads_answered = True, False
        async with asyncio.timeout(0.5):
            assert (await watch.read()).status == SERVING
        assert await health_of(channel) == {"": True, SERVICE: True, WRITES: True, READS: False}
        error = await failure(HealthStub(channel).Check(HealthCheckRequest(service="nonsense")))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        watch.cancel()


async def ask(channel: grpc.aio.Channel, request: ServerReflectionRequest) -> ServerReflectionResponse:
    async def requests() -> AsyncIterator[ServerReflectionRequest]:
        yield request

    (answer,) = [answer async for answer in ServerReflectionStub(channel).ServerReflectionInfo(requests())]
    assert isinstance(answer, ServerReflectionResponse)
    return answer


async def test_reflection_lists_the_public_services(front: Front) -> None:
    async with front.channel() as channel:
        answer = await ask(channel, ServerReflectionRequest(list_services=""))
        names = [service.name for service in answer.list_services_response.service]
        assert names == ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", SERVICE]


@pytest.mark.parametrize(
    "symbol", [SERVICE, f"{SERVICE}.LogMetrics", "tracker.v1.ConfigValue", "grpc.health.v1.Health"]
)
async def test_reflection_describes_what_is_public(front: Front, symbol: str) -> None:
    async with front.channel() as channel:
        answer = await ask(channel, ServerReflectionRequest(file_containing_symbol=symbol))
    files = [FileDescriptorProto.FromString(body) for body in answer.file_descriptor_response.file_descriptor_proto]
    names = {file.name for file in files}
    assert {dependency for file in files for dependency in file.dependency} <= names
    assert not any("internal" in name for name in names)


@pytest.mark.parametrize(
    "request_",
    [
        ServerReflectionRequest(file_containing_symbol="tracker.internal.v1.Envelope"),
        ServerReflectionRequest(file_containing_symbol="tracker.internal.v1.WriteToken"),
        ServerReflectionRequest(file_by_filename="tracker/internal/v1/envelope.proto"),
        ServerReflectionRequest(all_extension_numbers_of_type="tracker.internal.v1.Envelope"),
        ServerReflectionRequest(file_by_filename="google/rpc/status.proto"),
        ServerReflectionRequest(file_containing_symbol="nonsense"),
    ],
)
async def test_reflection_hides_the_rest(front: Front, request_: ServerReflectionRequest) -> None:
    async with front.channel() as channel:
        answer = await ask(channel, request_)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_a_second_server_on_the_port_says_so(front: Front) -> None:
    with pytest.raises(BadSetting, match=f"TRACKER_LISTEN is '{front.address}'.*Address already in use"):
        await Front(listen=front.address).start()


async def test_servers_that_all_share_their_port_may_each_come_and_go() -> None:
    first = Front(share_port=True)
    await first.start()
    second = Front(listen=first.address, share_port=True)
    try:
        await second.start()
        with pytest.raises(BadSetting, match="Address already in use"):
            await Front(listen=first.address).start()
        await first.server.stop(1.0)
        async with second.channel() as channel:
            assert (await health_of(channel))[SERVICE]
    finally:
        await second.server.stop(1.0)
        await first.server.stop(1.0)


async def test_one_that_shares_its_port_does_not_join_one_that_does_not(front: Front) -> None:
    with pytest.raises(BadSetting, match="Address already in use"):
        await Front(listen=front.address, share_port=True).start()


async def test_a_port_taken_on_one_of_several_addresses_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(BadSetting, match="Address already in use"):
            await Front(listen=f"0.0.0.0:{other.getsockname()[1]}").start()


@pytest.mark.parametrize("listen", ["", "localhost", ":50051", "localhost:", "localhost:x", "localhost:65536", "h:-1"])
async def test_an_address_that_is_none_says_what_would_be_right(listen: str) -> None:
    with pytest.raises(BadSetting, match="must be HOST:PORT"):
        await Front(listen=listen).start()


async def test_a_host_that_is_not_here_is_refused() -> None:
    with pytest.raises(BadSetting, match="not possible to listen"):
        await Front(listen="192.0.2.1:50051").start()


async def test_port_0_tells_the_real_one() -> None:
    async with running_front() as one, running_front() as two:
        ports = {int(front.address.rpartition(":")[2]) for front in (one, two)}
        assert len(ports) == 2
        assert 0 not in ports


async def test_a_stop_lets_calls_finish_and_takes_no_new_ones(front: Front) -> None:
    async with front.channel() as channel:
        front.publisher.held = True
        watch = HealthStub(channel).Watch(HealthCheckRequest(service=WRITES))
        assert (await watch.read()).status == SERVING
        calls = [asyncio.create_task(log_metric(channel)) for _ in range(5)]
        await until_outstanding(front, 5)
        stop = asyncio.create_task(front.server.stop(10))
        assert (await watch.read()).status == NOT_SERVING
        error = await failure(log_metric(channel))
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert not stop.done()
        front.publisher.release()
        answers = await asyncio.gather(*calls)
        assert all(answer.write_token for answer in answers)
        assert await watch.read() is grpc.aio.EOF
        async with asyncio.timeout(3):
            await stop
    assert front.ingest.outstanding == 0


async def test_a_stop_under_load_tells_every_caller_in_words(front: Front) -> None:
    answered = 0
    reasons: list[str] = []

    async def log_until_told() -> None:
        nonlocal answered
        while True:
            try:
                await log_metric(channel)
            except grpc.aio.AioRpcError as error:
                reasons.append(reason_of(error))
                return
            answered += 1

    async with front.channel() as channel:
        callers = [asyncio.create_task(log_until_told()) for _ in range(32)]
        await front.publisher.until_published(50)
        await front.server.stop(10)
        async with asyncio.timeout(5):
            await asyncio.gather(*callers)
    assert reasons == ["SHUTTING_DOWN"] * 32
    assert len(front.publisher.writes) == answered


async def test_a_stop_keeps_to_its_grace_and_answers_all_the_same(front: Front) -> None:
    async with front.channel() as channel:
        front.publisher.held = True
        stuck = [asyncio.create_task(log_metric(channel)) for _ in range(3)]
        await until_outstanding(front, 3)
        async with asyncio.timeout(3):
            await front.server.stop(0.5)
        for call in stuck:
            error = await failure(call)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert reason_of(error) in {"BROKER_UNAVAILABLE", "SHUTTING_DOWN"}  # sent already, or not


async def test_callers_who_do_not_listen_do_not_hold_up_a_stop(front: Front) -> None:
    async def hammer() -> None:
        while True:
            try:
                await log_metric(channel)
            except grpc.aio.AioRpcError as error:
                if "details-bin" not in str(error.trailing_metadata()):
                    return

    async with front.channel() as channel:
        callers = [asyncio.create_task(hammer()) for _ in range(4)]
        await front.publisher.until_published(10)
        async with asyncio.timeout(5):
            await front.server.stop(60)
            await asyncio.gather(*callers)


async def until_outstanding(front: Front, count: int) -> None:
    async with asyncio.timeout(10):
        while front.ingest.outstanding < count:  # noqa: ASYNC110  # the count has no event
            await asyncio.sleep(0.01)


async def test_a_stop_before_the_start_does_nothing() -> None:
    await Front().server.stop(1)
