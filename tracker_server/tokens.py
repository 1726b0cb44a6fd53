"""Write tokens and page tokens: opaque to callers, small messages in base64url to us.

They are neither secret nor signed. A forged one must do no harm, so everything in it is checked like any other input.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, TypeAlias, TypeVar

from google.protobuf.message import DecodeError, Message

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server import limits
from tracker_server.envelope import OF_EXPERIMENTS
from tracker_server.errors import InvalidRequest, Violation
from tracker_server.ids import ID

PagedRequest: TypeAlias = (
    public.GetSummaryRequest
    | public.GetRunRequest
    | public.ListExperimentsRequest
    | public.ListRunsRequest
    | public.ListMetricsRequest
    | public.GetMetricHistoryRequest
)
"""A request that is answered page by page."""


class BadToken(ValueError):
    """A token that this server did not make. The message says what would be right, without the field's name."""


def write_token(write: internal.Write) -> str:
    """The token of a numbered write: a read that carries it waits until the write is applied."""
    return _encode(
        internal.WriteToken(
            scope_id=write.scope_id,
            experiment=write.kind in OF_EXPERIMENTS,
            writer_id=write.writer_id,
            sequence=write.sequence,
        )
    )


def close_token(request: public.CloseWriterRequest) -> str:
    """The token of a close, which has no sequence of its own: satisfied once all that the writer sent is applied."""
    return _encode(
        internal.WriteToken(
            scope_id=request.run_id, writer_id=request.writer_id, sequence=request.last_sequence, closes=True
        )
    )


def read_write_token(text: str) -> internal.WriteToken:
    """What a write token says. Raises BadToken."""
    token = _decode(text, internal.WriteToken)
    lowest = 0 if token.closes else 1
    if not (
        ID.fullmatch(token.scope_id)
        and ID.fullmatch(token.writer_id)
        and len(token.writer_id) >= limits.MIN_WRITER_ID_LENGTH
        and token.sequence >= lowest
        and not (token.closes and token.experiment)
    ):
        raise BadToken(_FOREIGN)
    return token


def page_token(
    request: PagedRequest,
    *,
    time_unix_ms: int = 0,
    key: str = "",
    series_index: int = 0,
    step: int | None = None,
    step_offset: int = 0,
    order_values: str = "",
) -> str:
    """The token of the page that follows what was answered to this request; see internal.PageToken for the parts."""
    token = internal.PageToken(
        request_hash=request_hash(request),
        time_unix_ms=time_unix_ms,
        key=key,
        series_index=series_index,
        step_offset=step_offset,
        order_values=order_values,
    )
    if step is not None:
        token.step = step
    return _encode(token)


def read_page_token(request: PagedRequest) -> internal.PageToken | None:
    """Where to go on, None for the first page.

    Raises InvalidRequest on field page_token when it is no token, or one of another request.
    """
    if not request.page_token:
        return None
    try:
        return check_page_token(request)
    except BadToken as error:
        raise InvalidRequest([Violation("page_token", str(error))]) from None


def check_page_token(request: PagedRequest) -> internal.PageToken:
    """What the page token of a request says. Raises BadToken."""
    token = _decode(request.page_token, internal.PageToken)
    if token.request_hash != request_hash(request):
        message = "is of another request; send it with exactly the fields of the request that it was the answer to"
        raise BadToken(message)
    if not (
        limits.MIN_TIME_MS <= token.time_unix_ms <= limits.MAX_TIME_MS
        and len(token.key) <= limits.MAX_NAME_LENGTH
        and "\0" not in token.key
        and 0 <= token.series_index < limits.MAX_HISTORY_SELECTION**2
        and token.step_offset >= 0
    ):
        raise BadToken(_FOREIGN)
    return token


def watch_token(token: internal.WatchToken) -> str:
    """What a watcher has seen, as a revision of WatchRuns."""
    return _encode(token)


def read_watch_token(request: public.WatchRunsRequest) -> internal.WatchToken:
    """What the revision of a request says. Raises BadToken. Of which database it is, and whether it fits it, is not checked."""
    token = _decode(request.revision, internal.WatchToken)
    if token.request_hash != watch_hash(request):
        message = (
            "is of a watch of other runs; send it with the run_ids and the experiment_id that it was the answer to"
        )
        raise BadToken(message)
    position, snapshot = token.position, token.snapshot
    if not (
        0 < len(token.revisions) <= limits.MAX_PARTITIONS
        and min(token.revisions) >= 0
        and 0 <= position.partition < len(token.revisions)
        and (not token.HasField("position") or ID.fullmatch(position.run_id))
        and (not snapshot.run_id or ID.fullmatch(snapshot.run_id))
    ):
        raise BadToken(_FOREIGN)
    return token


def watch_hash(request: public.WatchRunsRequest) -> int:
    """A stable 64-bit hash of which runs a watch is for."""
    return request_hash(public.WatchRunsRequest(run_ids=sorted(request.run_ids), experiment_id=request.experiment_id))


def request_hash(request: PagedRequest | public.WatchRunsRequest) -> int:
    """A stable 64-bit hash of what a request asks for: of all but its page size, page token and write tokens."""
    plain = type(request)()
    plain.CopyFrom(request)  # type: ignore[arg-type]  # the same type, which a union cannot say
    for field in _PAGING.intersection(plain.DESCRIPTOR.fields_by_name):
        plain.ClearField(field)  # type: ignore[arg-type]  # the name comes from its own descriptor
    digest = hashlib.blake2b(digest_size=8, person=b"page token")
    digest.update(plain.DESCRIPTOR.full_name.encode() + b"\0")
    digest.update(plain.SerializeToString(deterministic=True))
    return int.from_bytes(digest.digest(), "big")


_PAGING: Final = frozenset({"page_size", "page_token", "write_tokens"})
_MAX_TOKEN_LENGTH: Final = 4_096
"""Characters. The longest real one has some 1,500: a name of 256 four-byte characters."""
_FOREIGN: Final = "is not a token of this service; send it as it came, or none"
_Token = TypeVar("_Token", bound=Message)


def _encode(token: Message) -> str:
    return base64.urlsafe_b64encode(token.SerializeToString()).rstrip(b"=").decode()


def _decode(text: str, kind: type[_Token]) -> _Token:
    if not text or len(text) > _MAX_TOKEN_LENGTH:
        raise BadToken(_FOREIGN)
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return kind.FromString(raw)
    except (binascii.Error, ValueError, DecodeError):
        raise BadToken(_FOREIGN) from None
