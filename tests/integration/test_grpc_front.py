"""The gRPC front as callers see it: every answer and every error over a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from tests.good_requests import GOOD, WRITER
from tests.grpc_front import Front, details_of, failure, fields_of, reason_of, running_front, status_of
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import MetricBlock, MetricColumn
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_server import errors, limits, tokens
from tracker_server.grpc import status_map
from tracker_server.ingest import IngestLimits
from tracker_server.ports import Refusal

SERVICE = public.DESCRIPTOR.services_by_name["TrackerService"]
WRITES = [name for name in GOOD if not name.startswith(("Get", "List", "Watch"))]
READS = [name for name in GOOD if name.startswith(("Get", "List")) and name != "GetServerInfo"]
TIMEOUT = 20.0


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with running_front() as front:
        yield front


@pytest.fixture
async def channel(front: Front) -> AsyncIterator[grpc.aio.Channel]:
    async with front.channel() as channel:
        yield channel


async def call(channel: grpc.aio.Channel, rpc: str, request: Message | bytes, timeout: float | None = TIMEOUT) -> Any:
    """Calls an RPC of the service; bytes are sent as they are."""
    stub = TrackerServiceStub(channel)
    if isinstance(request, Message):
        return await getattr(stub, rpc)(request, timeout=timeout)
    raw: Any = channel.unary_unary(f"/{SERVICE.full_name}/{rpc}")
    return await raw(request, timeout=timeout)


@pytest.mark.parametrize("rpc", WRITES)
async def test_a_write_is_published_and_answered_with_its_token(
    front: Front, channel: grpc.aio.Channel, rpc: str
) -> None:
    answer = await call(channel, rpc, GOOD[rpc])
    (write,) = front.publisher.writes
    assert write.payload == GOOD[rpc].SerializeToString() or type(GOOD[rpc]).FromString(write.payload) == GOOD[rpc]
    if rpc != "Heartbeat":
        token = tokens.read_write_token(answer.write_token)
        assert (token.scope_id, token.writer_id) == (write.scope_id, WRITER)
        assert (token.sequence, token.closes) == ((7, True) if rpc == "CloseWriter" else (1, False))


async def test_a_start_without_an_id_is_told_its_id(front: Front, channel: grpc.aio.Channel) -> None:
    answer = await call(channel, "StartRun", public.StartRunRequest())
    assert answer.run_id == front.publisher.writes[0].scope_id
    assert len(answer.run_id) == 32


async def test_a_heartbeat_is_told_to_stop(channel: grpc.aio.Channel) -> None:
    answer = await call(channel, "Heartbeat", public.HeartbeatRequest(run_id="to-be-stopped"))
    assert (answer.stop_requested, answer.lease_seconds) == (True, 120)


async def test_server_info_needs_nothing(front: Front, channel: grpc.aio.Channel) -> None:
    front.publisher.accepting = front.reads_answered = False
    answer = await call(channel, "GetServerInfo", public.GetServerInfoRequest())
    assert (answer.version, answer.embedded) == ("1.2.3", True)
    assert answer.limits.max_request_bytes == limits.MAX_REQUEST_BYTES
    assert all(value > 0 for _, value in answer.limits.ListFields())
    assert len(answer.limits.ListFields()) == len(answer.limits.DESCRIPTOR.fields)


@pytest.mark.parametrize("rpc", READS)
async def test_a_read_answers_with_a_message_or_with_bytes(front: Front, channel: grpc.aio.Channel, rpc: str) -> None:
    expected = type(await call(channel, rpc, GOOD[rpc]))()
    for field in expected.DESCRIPTOR.fields:
        if field.name in {"next_page_token", "total_runs"}:
            setattr(expected, field.name, "token" if field.name == "next_page_token" else 7)

    async def answer(request: Message, deadline: float | None) -> Any:
        assert request == GOOD[rpc]
        encoded: bytes = expected.SerializeToString()
        return expected if deadline is None else encoded

    front.reads.answer = answer
    assert await call(channel, rpc, GOOD[rpc]) == expected
    assert await call(channel, rpc, GOOD[rpc], timeout=None) == expected


async def test_reads_are_told_the_deadline_less_the_way_back(front: Front, channel: grpc.aio.Channel) -> None:
    await call(channel, "GetRun", GOOD["GetRun"], timeout=None)
    await call(channel, "GetRun", GOOD["GetRun"], timeout=10)
    none, ten = front.reads.deadlines
    assert none is None
    assert ten is not None
    assert 5 < ten <= 9.75


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (errors.Unauthenticated(), grpc.StatusCode.UNAUTHENTICATED, None),
        (errors.InvalidApiKey(), grpc.StatusCode.UNAUTHENTICATED, None),
        (errors.RunNotFound("No run 'x'.", run_id="x"), grpc.StatusCode.NOT_FOUND, None),
        (errors.ExperimentNotFound(), grpc.StatusCode.NOT_FOUND, None),
        (errors.StoreUnavailable(), grpc.StatusCode.UNAVAILABLE, 2.0),
        (errors.WriteNotVisible(), grpc.StatusCode.DEADLINE_EXCEEDED, 1.0),
        (errors.WriteDeadLettered(), grpc.StatusCode.FAILED_PRECONDITION, None),
        (errors.RunPurged(), grpc.StatusCode.FAILED_PRECONDITION, None),
        (errors.BadMigration(), grpc.StatusCode.FAILED_PRECONDITION, None),
        (errors.BrokerUnavailable(), grpc.StatusCode.UNAVAILABLE, 1.0),
        (errors.QueueFull(), grpc.StatusCode.RESOURCE_EXHAUSTED, 2.0),
        (errors.TooManyOutstanding(), grpc.StatusCode.RESOURCE_EXHAUSTED, 0.5),
        (errors.ShuttingDown(), grpc.StatusCode.UNAVAILABLE, 1.0),
        (errors.WriteRefused(), grpc.StatusCode.FAILED_PRECONDITION, None),
    ],
)
async def test_every_error_comes_with_its_details(
    front: Front, channel: grpc.aio.Channel, error: errors.TrackerError, code: grpc.StatusCode, retry: float | None
) -> None:
    front.reads.error = error
    seen = await failure(call(channel, "GetRun", GOOD["GetRun"]))
    assert (seen.code(), seen.details(), reason_of(seen)) == (code, str(error), error.reason)
    assert dict(details_of(seen, ErrorInfo)[0].metadata) == error.metadata
    retries = [info.retry_delay.ToMilliseconds() / 1000 for info in details_of(seen, RetryInfo)]
    assert retries == ([] if retry is None else [retry])


def test_every_error_has_a_code_and_exhausted_ones_can_be_retried() -> None:
    internal_only = {errors.BadSetting}
    # Of that module: a consumer that stops has an error of its own, which no caller sees.
    known = {kind for kind in errors.TrackerError.__subclasses__() if kind.__module__ == errors.__name__}
    assert known == set(status_map.CODES) | internal_only
    for kind, code in status_map.CODES.items():
        assert (kind.retry_after is not None) or code is not grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_all_violations_come_over_the_wire(channel: grpc.aio.Channel) -> None:
    request = public.LogMetricRequest(run_id="bad id", name="", attempt=-1, writer_id="short", sequence=-1)
    seen = await failure(call(channel, "LogMetric", request))
    assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert fields_of(seen) == ["run_id", "name", "attempt", "writer_id", "sequence"]
    assert "run_id: is 'bad id'" in str(seen.details())
    assert "name: is empty" in str(seen.details()), "a client at a terminal may show nothing but the message"


@pytest.mark.parametrize("nasty", ["\U0001f600" * 300, "\0" * 300, "%" * 300, "x" * 300])
async def test_so_many_violations_that_trailers_overflow_are_cut(
    front: Front, channel: grpc.aio.Channel, nasty: str
) -> None:
    request = public.StartRunRequest(run_id=nasty, tags=[nasty] * 500, metadata={nasty: nasty})
    for _ in range(20):  # beyond 8 KiB of trailers, clients refuse some answers at random
        seen = await failure(call(channel, "StartRun", request))
        assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    (bad,) = details_of(seen, BadRequest)
    assert bad.field_violations[0].field == "run_id"
    assert len(bad.field_violations) >= 5
    assert "more" in bad.field_violations[-1].description
    assert status_of(seen).ByteSize() * 4 / 3 < 7_000
    assert front.publisher.messages == []


@pytest.mark.parametrize(
    ("rpc", "body"),
    [
        ("LogMetric", b"\xff\xff\xff"),
        ("LogMetric", GOOD["LogMetric"].SerializeToString()[:-1]),
        ("LogMetric", b"\x0a\x02\xff\xfe"),
        ("LogMetrics", b"\x2a\x05\x0a\x03abc"),
        ("StartRun", b"\x22\x7f" + b"\x0a" * 127),
        ("GetRun", b"\x0a\x02\xff\xfe"),
        ("GetServerInfo", b"\x07"),
    ],
)
async def test_bytes_that_are_no_request_are_the_callers_mistake(
    channel: grpc.aio.Channel, rpc: str, body: bytes
) -> None:
    seen = await failure(call(channel, rpc, body))
    assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert fields_of(seen) == [""]
    assert str(seen.details()).startswith("the request is no valid tracker.v1.")


async def test_unknown_fields_and_odd_encodings_are_taken(front: Front, channel: grpc.aio.Channel) -> None:
    one, two = (value.to_bytes(8, "little") for value in (1, 2))
    column = b"\x0a\x01m" + b"\x11" + one + b"\x12\x08" + two
    block = b"\x09" + one + b"\x0a\x08" + two + b"\x1a" + bytes([len(column)]) + column
    body = b"\x78\x01" + b"\x2a" + bytes([len(block)]) + block + b"\x0a\x03run"
    await call(channel, "LogMetrics", body)
    (write,) = front.publisher.writes
    (packed,) = internal.PackedLogMetrics.FromString(write.payload).blocks
    assert (list(packed.steps), packed.columns[0].values) == ([one + two], one + two)


async def test_a_request_of_five_megabytes_gets_the_typed_error(front: Front, channel: grpc.aio.Channel) -> None:
    columns = [MetricColumn(name="m", values=[0.5] * 655_360)]
    request = public.LogMetricsRequest(run_id="run", blocks=[MetricBlock(columns=columns)])
    seen = await failure(call(channel, "LogMetrics", request))
    assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_TOO_LARGE")
    metadata = details_of(seen, ErrorInfo)[0].metadata
    assert (metadata["size"], metadata["limit"]) == (str(request.ByteSize()), str(limits.MAX_REQUEST_BYTES))
    assert details_of(seen, RetryInfo) == []
    assert front.publisher.messages == []


async def test_a_request_of_exactly_the_limit_is_taken(front: Front, channel: grpc.aio.Channel) -> None:
    request = public.LogMetricRequest(run_id="run", name="m")
    body = request.SerializeToString()
    padding = limits.MAX_REQUEST_BYTES - len(body) - 5  # an unknown field: its tag and a length of four bytes
    body += b"\x7a" + bytes([padding & 127 | 128, padding >> 7 & 127 | 128, padding >> 14 & 127 | 128, padding >> 21])
    body += bytes(padding)
    assert len(body) == limits.MAX_REQUEST_BYTES
    await call(channel, "LogMetric", body)
    assert reason_of(await failure(call(channel, "LogMetric", body + b"\x78\x01"))) == "REQUEST_TOO_LARGE"
    assert len(front.publisher.writes) == 1


async def test_a_bug_tells_nothing_but_an_id(
    front: Front, channel: grpc.aio.Channel, capsys: pytest.CaptureFixture[str]
) -> None:
    front.reads.error = RuntimeError("the password is swordfish")
    seen = await failure(call(channel, "GetRun", GOOD["GetRun"]))
    assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    error_id = details_of(seen, ErrorInfo)[0].metadata["error_id"]
    assert error_id in str(seen.details())
    assert "swordfish" not in str(status_of(seen))
    logged = capsys.readouterr().out
    assert error_id in logged
    assert "swordfish" in logged, "the log has the cause"


async def test_an_error_that_no_caller_should_see_is_a_bug(front: Front, channel: grpc.aio.Channel) -> None:
    front.reads.error = errors.BadSetting("TRACKER_DATABASE_URL is postgresql://user:swordfish@host")
    seen = await failure(call(channel, "GetRun", GOOD["GetRun"]))
    assert reason_of(seen) == "INTERNAL"
    assert "swordfish" not in str(status_of(seen))


async def test_success_and_callers_mistakes_are_not_logged(
    channel: grpc.aio.Channel, capsys: pytest.CaptureFixture[str]
) -> None:
    await call(channel, "LogMetric", GOOD["LogMetric"])
    await failure(call(channel, "LogMetric", public.LogMetricRequest()))
    assert capsys.readouterr().out == ""


async def test_errors_of_the_broker(front: Front, channel: grpc.aio.Channel) -> None:
    front.publisher.error = errors.QueueFull()
    assert reason_of(await failure(call(channel, "LogMetric", GOOD["LogMetric"]))) == "QUEUE_FULL"
    front.publisher.error = None
    front.publisher.refusals = [Refusal(0, "cannot be stored")]
    assert reason_of(await failure(call(channel, "LogMetric", GOOD["LogMetric"]))) == "WRITE_REFUSED"
    front.publisher.accepting = False
    seen = await failure(call(channel, "LogMetric", GOOD["LogMetric"]))
    assert (reason_of(seen), details_of(seen, ErrorInfo)[0].metadata["outcome"]) == (
        "BROKER_UNAVAILABLE",
        "not_written",
    )


async def test_a_confirm_that_does_not_come_is_typed_before_the_deadline(
    front: Front, channel: grpc.aio.Channel
) -> None:
    front.publisher.held = True
    seen = await failure(call(channel, "LogMetric", GOOD["LogMetric"], timeout=2))
    assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.UNAVAILABLE, "BROKER_UNAVAILABLE")
    assert details_of(seen, ErrorInfo)[0].metadata["outcome"] == "unknown"


async def test_too_many_outstanding() -> None:
    async with running_front(IngestLimits(outstanding_writes=2)) as front, front.channel() as channel:
        front.publisher.held = True
        calls = [asyncio.ensure_future(call(channel, "LogMetric", GOOD["LogMetric"])) for _ in range(2)]
        async with asyncio.timeout(10):
            while front.ingest.outstanding < 2:  # noqa: ASYNC110  # the count has no event
                await asyncio.sleep(0.01)
        seen = await failure(call(channel, "LogMetric", GOOD["LogMetric"]))
        assert (seen.code(), reason_of(seen)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_OUTSTANDING")
        assert details_of(seen, RetryInfo)
        front.publisher.release()
        await asyncio.gather(*calls)


async def test_a_caller_who_goes_takes_nobody_along(front: Front, channel: grpc.aio.Channel) -> None:
    front.publisher.held = True
    calls = [asyncio.ensure_future(call(channel, "LogMetric", GOOD["LogMetric"])) for _ in range(8)]
    await front.publisher.until_published(1)
    for gone in calls[::2]:
        gone.cancel()
    front.publisher.release()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(outcome, public.LogMetricResponse) for outcome in outcomes] == [False, True] * 4


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    assert (await failure(call(channel, "Nonsense", b""))).code() is grpc.StatusCode.UNIMPLEMENTED
