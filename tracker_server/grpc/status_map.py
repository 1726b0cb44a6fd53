"""From errors to google.rpc.Status: one table, and the details that go with each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from tracker_server import errors

DOMAIN: Final = "tracker.v1"
"""Of every ErrorInfo."""

CODES: Final[Mapping[type[errors.TrackerError], StatusCode]] = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    # Not RESOURCE_EXHAUSTED, which in this contract always means "try again".
    errors.RequestTooLarge: StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.InvalidApiKey: StatusCode.UNAUTHENTICATED,
    errors.RunNotFound: StatusCode.NOT_FOUND,
    errors.ExperimentNotFound: StatusCode.NOT_FOUND,
    errors.BrokerUnavailable: StatusCode.UNAVAILABLE,
    errors.QueueFull: StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyOutstanding: StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyWatchers: StatusCode.RESOURCE_EXHAUSTED,
    errors.ShuttingDown: StatusCode.UNAVAILABLE,
    errors.StoreUnavailable: StatusCode.UNAVAILABLE,
    errors.WriteRefused: StatusCode.FAILED_PRECONDITION,
    errors.WriteNotVisible: StatusCode.DEADLINE_EXCEEDED,
    errors.WriteDeadLettered: StatusCode.FAILED_PRECONDITION,
    errors.RunPurged: StatusCode.FAILED_PRECONDITION,
    errors.BadMigration: StatusCode.FAILED_PRECONDITION,
}
"""The errors that a caller is told of, and their codes. Whatever is not here is nobody's business: INTERNAL."""


def is_known(error: Exception) -> bool:
    """Whether a caller may be told what went wrong."""
    return type(error) in CODES


def status_of(error: errors.TrackerError) -> Status:
    """The status of an error of the table."""
    code = CODES[type(error)]
    details: list[Message] = [_error_info(error.reason, error.metadata)]
    if error.retry_after is not None:
        retry = RetryInfo(retry_delay=Duration())
        retry.retry_delay.FromNanoseconds(round(error.retry_after * 1e9))
        details.append(retry)
    if isinstance(error, errors.InvalidRequest):
        details.append(_bad_request(error.violations))
        return _status(code, _violations_in_words(error.violations), details)
    return _status(code, str(error), details)


def internal_status(error_id: str) -> Status:
    """The status of an unexpected error: nothing of it but the id under which it is in this server's log."""
    message = f"Internal error {error_id}; the server's log has more under this id."
    return _status(StatusCode.INTERNAL, message, [_error_info("INTERNAL", {"error_id": error_id})])


# Status, message and details travel in the trailers, and of those gRPC clients take 8 KiB: beyond it the caller sees a
# bare RESOURCE_EXHAUSTED instead. The message is there twice, percent-encoded and in the details, and the details
# may be in base64.
_MAX_MESSAGE_BYTES: Final = 1_200
_MAX_VIOLATION_BYTES: Final = 3_200
_MAX_WORDS_CHARACTERS: Final = 500
_MAX_METADATA_CHARACTERS: Final = 100


def _status(code: StatusCode, message: str, details: list[Message]) -> Status:
    number: int = code.value[0]
    status = Status(code=number, message=_cut_message(message))
    for detail in details:
        status.details.add().Pack(detail)
    return status


def _error_info(reason: str, metadata: Mapping[str, str]) -> ErrorInfo:
    short = {
        key: value if len(value) <= _MAX_METADATA_CHARACTERS else value[:_MAX_METADATA_CHARACTERS] + "…"
        for key, value in metadata.items()
    }
    return ErrorInfo(reason=reason, domain=DOMAIN, metadata=short)


def _bad_request(violations: list[errors.Violation]) -> BadRequest:
    """As many violations as there is room for, then one that says how many more."""
    details = BadRequest()
    size = 0
    for number, violation in enumerate(violations):
        field = BadRequest.FieldViolation(field=violation.field, description=violation.description)
        size += field.ByteSize() + 3
        if size > _MAX_VIOLATION_BYTES and number:
            details.field_violations.add(
                description=f"and at least {len(violations) - number} more, for which there is no room here"
            )
            break
        details.field_violations.append(field)
    return details


def _violations_in_words(violations: list[errors.Violation]) -> str:
    """The first few: what clients at a terminal show of an error is its message."""
    parts: list[str] = []
    for number, violation in enumerate(violations):
        part = f"{violation.field}: {violation.description}" if violation.field else violation.description
        if parts and sum(map(len, parts)) + len(part) > _MAX_WORDS_CHARACTERS:
            parts.append(f"and {len(violations) - number} more")
            break
        parts.append(part)
    return "; ".join(parts)


def _cut_message(message: str) -> str:
    """A message that does not grow beyond measure when percent-encoded."""
    size = 0
    for position, character in enumerate(message):
        size += 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())
        if size > _MAX_MESSAGE_BYTES:
            return message[:position] + "…"
    return message
