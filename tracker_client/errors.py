"""What can go wrong with a call: one class for each thing that a caller would do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc

from tracker_client.retry import is_retryable
from tracker_client.status_details import METADATA_KEY, Details, read_details

SERVICE_DOMAIN: Final = "tracker.v1"
"""Of the service's own reasons; a proxy's are none of ours."""


class TrackerError(Exception):
    """A call failed. Its text is the message; docs/contract.md lists the reasons."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[tuple[str, str], ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """What is wrong, for people."""
        self.code = code
        """Name of the grpc status code, such as NOT_FOUND."""
        self.reason = reason
        """The service's reason, such as RUN_NOT_FOUND; empty when the error is not the service's own."""
        self.metadata = dict(metadata or {})
        """Facts that go with the reason."""
        self.violations = violations
        """Each field of the request that is wrong, and what is wrong with it."""
        self.retry_after = retry_after
        """Seconds after which the same call may succeed, as the server says; None when it says nothing."""
        self.retryable = is_retryable(code, reason, retry_after)
        """Whether the same call, a write with the same writer_id and sequence, may succeed later."""


class InvalidRequest(TrackerError):
    """Fields of the request are wrong; `violations` names each. Nothing was written."""


class TooLarge(TrackerError):
    """The request, or its answer, has more bytes than one side takes: split it."""


class NotFound(TrackerError):
    """No such run or experiment."""


class Unauthenticated(TrackerError):
    """The server wants an API key, or another one."""


class PermissionDenied(TrackerError):
    """The caller may not do that."""


class FailedPrecondition(TrackerError):
    """The request is right and cannot be carried out as things stand; the reason says why."""


class Unavailable(TrackerError):
    """The server, or what it needs, is out of reach."""


class Overloaded(TrackerError):
    """The server takes no more just now; the same call may succeed after `retry_after` seconds."""


class DeadlineExceeded(TrackerError):
    """There was no answer in time. A write may or may not have been taken."""


class Unimplemented(TrackerError):
    """The server does not know this call: it is older than the client, or no tracker."""


class InternalError(TrackerError):
    """A defect of the server."""


class ClientClosed(TrackerError):
    """The client was closed, before the call or while it waited."""

    def __init__(self, message: str = "the client is closed") -> None:
        super().__init__(message, code="CANCELLED")
        self.retryable = False


def error_of(error: grpc.RpcError) -> TrackerError:
    """The exception for an error of grpc, synchronous or not, with the details that the server sent along."""
    code = error.code().name
    details = _details_of(error)
    reason = details.reason if details.domain == SERVICE_DOMAIN else ""
    kind = _KINDS.get(code, TrackerError)
    if reason == "REQUEST_TOO_LARGE" or (kind is Overloaded and details.retry_after is None):
        kind = TooLarge
    return kind(
        _message(code, error.details() or "", reason),
        code=code,
        reason=reason,
        metadata=details.metadata if reason else None,
        violations=details.violations,
        retry_after=details.retry_after,
    )


_KINDS: Final[Mapping[str, type[TrackerError]]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "NOT_FOUND": NotFound,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "FAILED_PRECONDITION": FailedPrecondition,
    "UNAVAILABLE": Unavailable,
    "RESOURCE_EXHAUSTED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNIMPLEMENTED": Unimplemented,
    "INTERNAL": InternalError,
    "DATA_LOSS": InternalError,
}


def _message(code: str, text: str, reason: str) -> str:
    if reason:
        return text
    if code == "DEADLINE_EXCEEDED":
        return "no answer in time"
    return f"{code}: {text}" if text else code


def _details_of(error: grpc.RpcError) -> Details:
    # Pairs in both of grpc's worlds, and None where there was no answer at all.
    pairs: Any = error.trailing_metadata() or ()
    for key, value in pairs:
        if key == METADATA_KEY and isinstance(value, bytes):
            return read_details(value)
    return Details()
