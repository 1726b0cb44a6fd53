"""A front for tests: the real gRPC server over a fake publisher and fake reads, and a channel to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from tests.fake_publisher import FakePublisher
from tests.good_requests import GOOD
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_server.grpc.server import GrpcServer
from tracker_server.grpc.servicer import Servicer
from tracker_server.heartbeats import Heartbeats
from tracker_server.identity import Identity
from tracker_server.ingest import Ingest, IngestLimits

Detail = TypeVar("Detail", BadRequest, ErrorInfo, RetryInfo)


class FakeReads:
    """Answers every read with what it is told to."""

    def __init__(self) -> None:
        self.answer: Callable[[Any, float | None], Awaitable[Any]] | None = None
        self.error: Exception | None = None
        self.deadlines: list[float | None] = []

    async def _read(self, request: Message, deadline: float | None) -> Any:
        self.deadlines.append(deadline)
        if self.error:
            raise self.error
        if self.answer:
            return await self.answer(request, deadline)
        name = request.DESCRIPTOR.name.replace("Request", "Response")
        return getattr(public, name)()

    get_summary = get_run = list_experiments = list_runs = list_metrics = _read
    get_metric_history = get_dashboard_stats = _read


class FakeWatches:
    """A stream that sends what it is told to, and then fails, or goes on for ever."""

    def __init__(self) -> None:
        self.answers: list[public.WatchRunsResponse] = []
        self.error: Exception | None = None
        self.requests: list[public.WatchRunsRequest] = []
        self.open = 0

    async def watch(
        self, request: public.WatchRunsRequest, send: Callable[[public.WatchRunsResponse], Awaitable[None]]
    ) -> None:
        self.requests.append(request)
        self.open += 1
        answers, error = self.answers, self.error
        try:
            for answer in answers:
                await send(answer)
            if error:
                raise error
            await asyncio.Event().wait()
        finally:
            self.open -= 1


class NoStopFlags:
    """Nobody is asked to stop."""

    def stop_requested(self, run_id: str, attempt: int) -> bool:  # noqa: ARG002  # for StopFlags
        return run_id == "to-be-stopped"


class Front:
    """A running server with everything around it that a test may turn."""

    def __init__(
        self,
        ingest_limits: IngestLimits | None = None,
        listen: str = "127.0.0.1:0",
        api_keys: Iterable[str] = (),
        credentials: grpc.ServerCredentials | None = None,
        *,
        share_port: bool = False,
    ) -> None:
        self.publisher = FakePublisher()
        self.reads = FakeReads()
        self.watches = FakeWatches()
        self.reads_answered = True
        self.address = ""
        self.ingest = Ingest(self.publisher, 8, ingest_limits)
        identity = Identity()
        self.server = GrpcServer(
            listen=listen,
            share_port=share_port,
            servicer=Servicer(
                ingest=self.ingest,
                identity=identity,
                heartbeats=Heartbeats(self.ingest, identity, NoStopFlags()),
                reads=self.reads,
                watches=self.watches,
                version="1.2.3",
                embedded=True,
            ),
            ingest=self.ingest,
            reads_answered=lambda: self.reads_answered,
            api_keys=api_keys,
            credentials=credentials,
        )

    async def start(self) -> None:
        self.address = await self.server.start()

    def channel(self, *options: tuple[str, int]) -> grpc.aio.Channel:
        unlimited = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
        return grpc.aio.insecure_channel(self.address, options=(*unlimited, *options))


@asynccontextmanager
async def running_front(
    ingest_limits: IngestLimits | None = None,
    api_keys: Iterable[str] = (),
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[Front]:
    """A front, stopped afterwards."""
    front = Front(ingest_limits, api_keys=api_keys, credentials=credentials)
    await front.start()
    try:
        yield front
    finally:
        front.publisher.release()
        await front.server.stop(5)


async def log_metric(channel: grpc.aio.Channel, timeout: float = 20.0) -> public.LogMetricResponse:
    """Logs a point."""
    stub: Any = TrackerServiceStub(channel)
    answer = await stub.LogMetric(GOOD["LogMetric"], timeout=timeout)
    assert isinstance(answer, public.LogMetricResponse)
    return answer


async def failure(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """The error with which a call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def status_of(error: grpc.aio.AioRpcError) -> Status:
    """The google.rpc.Status that came with an error."""
    (body,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    assert isinstance(body, bytes)
    status = Status.FromString(body)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    return status


def details_of(error: grpc.aio.AioRpcError, kind: type[Detail]) -> list[Detail]:
    """Its details of one kind."""
    found = []
    for packed in status_of(error).details:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason of its one ErrorInfo."""
    (info,) = details_of(error, ErrorInfo)
    assert info.domain == "tracker.v1"
    return str(info.reason)


def fields_of(error: grpc.aio.AioRpcError) -> Sequence[str]:
    """The fields of its one BadRequest."""
    (bad,) = details_of(error, BadRequest)
    return [violation.field for violation in bad.field_violations]
