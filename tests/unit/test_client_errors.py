"""From what grpc raises to the client's exceptions, details and all."""

from __future__ import annotations

import pickle

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, Help, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from tests.rpc_errors import FakeRpcError
from tracker_client import errors
from tracker_client.errors import error_of
from tracker_client.status_details import Details, read_details
from tracker_server import errors as server_errors
from tracker_server.grpc.status_map import CODES, internal_status, status_of


def _status(*details: Message) -> bytes:
    status = Status(code=14, message="sorry")
    for detail in details:
        status.details.add().Pack(detail)
    body: bytes = status.SerializeToString()
    return body


def test_details_are_read_as_they_were_written() -> None:
    body = _status(
        Help(links=[Help.Link(url="somewhere")]),
        BadRequest(field_violations=[{"field": "run_id", "description": "ünïcode 🙂"}, {"description": "more"}]),
        RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)),
        ErrorInfo(reason="QUEUE_FULL", domain="tracker.v1", metadata={"a": "1", "b": ""}),
    )
    assert read_details(body) == Details(
        domain="tracker.v1",
        reason="QUEUE_FULL",
        metadata={"a": "1", "b": ""},
        violations=(("run_id", "ünïcode 🙂"), ("", "more")),
        retry_after=1.5,
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Details()),
        (_status(), Details()),
        (_status(RetryInfo()), Details(retry_after=0.0)),
        (_status(RetryInfo(retry_delay=Duration(seconds=-5))), Details(retry_after=0.0)),
        (_status(RetryInfo(retry_delay=Duration(nanos=1))), Details(retry_after=1e-9)),
        (_status(ErrorInfo(reason="A"), ErrorInfo(reason="B")), Details(reason="A")),
        (b"\xff\xff\xff", Details()),
    ],
)
def test_details_that_are_odd_or_missing(body: bytes, expected: Details) -> None:
    assert read_details(body) == expected


def test_a_detail_that_cannot_be_read_hides_no_other() -> None:
    status = Status.FromString(_status(RetryInfo(retry_delay=Duration(seconds=3))))
    status.details.insert(0, Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\x0a\xff"))
    assert read_details(status.SerializeToString()) == Details(retry_after=3.0)


_BODY = _status(
    ErrorInfo(reason="R", domain="tracker.v1", metadata={"k": "v"}),
    BadRequest(field_violations=[{"field": "f", "description": "d"}]),
    RetryInfo(retry_delay=Duration(seconds=2)),
)


@given(st.binary(max_size=80) | st.integers(0, len(_BODY)).map(lambda end: _BODY[:end]))
def test_no_bytes_at_all_make_reading_fail(body: bytes) -> None:
    assert isinstance(read_details(body), Details)


_CLASSES = {
    "INVALID_REQUEST": errors.InvalidRequest,
    "REQUEST_TOO_LARGE": errors.TooLarge,
    "UNAUTHENTICATED": errors.Unauthenticated,
    "INVALID_API_KEY": errors.Unauthenticated,
    "RUN_NOT_FOUND": errors.NotFound,
    "EXPERIMENT_NOT_FOUND": errors.NotFound,
    "BROKER_UNAVAILABLE": errors.Unavailable,
    "QUEUE_FULL": errors.Overloaded,
    "TOO_MANY_OUTSTANDING": errors.Overloaded,
    "TOO_MANY_WATCHERS": errors.Overloaded,
    "SHUTTING_DOWN": errors.Unavailable,
    "DATABASE_UNAVAILABLE": errors.Unavailable,
    "WRITE_REFUSED": errors.FailedPrecondition,
    "WRITE_NOT_VISIBLE": errors.DeadlineExceeded,
    "WRITE_DEAD_LETTERED": errors.FailedPrecondition,
    "RUN_PURGED": errors.FailedPrecondition,
    "WRONG_REVISION": errors.FailedPrecondition,
}


@pytest.mark.parametrize("kind", list(CODES), ids=lambda kind: kind.__name__)
def test_every_error_of_the_server_has_its_class(kind: type[server_errors.TrackerError]) -> None:
    if kind is server_errors.InvalidRequest:
        sent: server_errors.TrackerError = server_errors.InvalidRequest([server_errors.Violation("run_id", "is empty")])
    else:
        sent = kind("What is wrong.", fact="7")
    status = status_of(sent)
    error = error_of(FakeRpcError(CODES[kind].name, status.message, status.SerializeToString()))
    assert type(error) is _CLASSES[kind.reason]
    assert (error.code, error.reason, error.message) == (CODES[kind].name, kind.reason, status.message)
    assert str(error) == error.message
    assert error.retry_after == kind.retry_after
    assert error.retryable is (kind.retry_after is not None)
    assert error.metadata == sent.metadata
    assert error.violations == ((("run_id", "is empty"),) if kind is server_errors.InvalidRequest else ())


def test_a_defect_of_the_server_can_be_found_in_its_log() -> None:
    status = internal_status("abc123")
    error = error_of(FakeRpcError("INTERNAL", status.message, status.SerializeToString()))
    assert type(error) is errors.InternalError
    assert error.metadata == {"error_id": "abc123"}


@pytest.mark.parametrize(
    ("code", "text", "kind", "message"),
    [
        ("UNAVAILABLE", "connection refused", errors.Unavailable, "UNAVAILABLE: connection refused"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", errors.DeadlineExceeded, "no answer in time"),
        (
            "RESOURCE_EXHAUSTED",
            "message larger than max",
            errors.TooLarge,
            "RESOURCE_EXHAUSTED: message larger than max",
        ),
        ("UNIMPLEMENTED", None, errors.Unimplemented, "UNIMPLEMENTED"),
        ("PERMISSION_DENIED", "", errors.PermissionDenied, "PERMISSION_DENIED"),
        ("UNKNOWN", "what?", errors.TrackerError, "UNKNOWN: what?"),
    ],
)
def test_what_grpc_itself_says(code: str, text: str | None, kind: type[errors.TrackerError], message: str) -> None:
    error = error_of(FakeRpcError(code, text))
    assert (type(error), error.code, error.reason, error.message) == (kind, code, "", message)


def test_reasons_of_others_are_none_of_the_services() -> None:
    body = _status(ErrorInfo(reason="RATE_LIMITED", domain="proxy.example.com", metadata={"a": "b"}))
    error = error_of(FakeRpcError("UNAVAILABLE", "later", body))
    assert (error.reason, error.metadata, error.retryable) == ("", {}, True)


def test_errors_travel_between_processes() -> None:
    body = _status(ErrorInfo(reason="R", domain="tracker.v1", metadata={"k": "v"}), RetryInfo())
    for error in (error_of(FakeRpcError("UNAVAILABLE", "later", body)), errors.ClientClosed()):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_every_code_gives_an_exception() -> None:
    for code in grpc.StatusCode:
        assert isinstance(error_of(FakeRpcError(code.name)), errors.TrackerError)
