"""A dead letter as text, for people: its headers, and its writes as far as they can be decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server.broker.letters import DeadLetterInfo

MAX_PAYLOAD_CHARACTERS: Final = 20_000
"""A write's text is cut here: a batch may hold 250,000 points."""
MAX_HEX_BYTES: Final = 256
"""So much of a body that cannot be decoded is shown."""

_PAYLOADS: Final[Mapping[int, type[Message]]] = {
    internal.WRITE_KIND_START_RUN: public.StartRunRequest,
    internal.WRITE_KIND_LOG_METRIC: public.LogMetricRequest,
    internal.WRITE_KIND_LOG_METRICS: public.LogMetricsRequest,
    internal.WRITE_KIND_CLOSE_WRITER: public.CloseWriterRequest,
    internal.WRITE_KIND_RUN_COMPLETED: public.RunCompletedRequest,
    internal.WRITE_KIND_HEARTBEAT: public.HeartbeatRequest,
    internal.WRITE_KIND_UPDATE_RUN: public.UpdateRunRequest,
    internal.WRITE_KIND_UPDATE_EXPERIMENT: public.UpdateExperimentRequest,
    internal.WRITE_KIND_REWIND_RUN: public.RewindRunRequest,
    internal.WRITE_KIND_STOP_RUN: public.StopRunRequest,
    internal.WRITE_KIND_DELETE_RUN: public.DeleteRunRequest,
    internal.WRITE_KIND_UNDELETE_RUN: public.UndeleteRunRequest,
    internal.WRITE_KIND_DELETE_EXPERIMENT: public.DeleteExperimentRequest,
    internal.WRITE_KIND_UNDELETE_EXPERIMENT: public.UndeleteExperimentRequest,
    internal.WRITE_KIND_LEASE_MARKER: internal.LeaseMarker,
}


def letter_text(info: DeadLetterInfo, headers: Mapping[str, Any], body: bytes) -> str:
    """Several lines. Never raises, whatever the body holds."""
    return "\n".join([f"id: {info.id}", f"size: {info.size_bytes} bytes", *_headers(headers), *_body(body)])


def _headers(headers: Mapping[str, Any]) -> Iterator[str]:
    for name, value in headers.items():
        yield f"{name}: {value}"


def _body(body: bytes) -> Iterator[str]:
    try:
        envelope = internal.Envelope.FromString(body)
    except DecodeError as error:
        yield f"not an envelope: {error}"
        yield _hex(body)
        return
    yield f"envelope version {envelope.version}, {len(envelope.writes)} writes"
    for number, write in enumerate(envelope.writes):
        yield f"write {number}:"
        yield from _write(write)


def _write(write: internal.Write) -> Iterator[str]:
    known = write.kind in internal.WriteKind.values()
    yield f"  kind: {internal.WriteKind.Name(write.kind) if known else write.kind}"
    for name in ("scope_id", "writer_id", "sequence", "attempt", "accepted_at_unix_ms", "replay", "server_assigned"):
        yield f"  {name}: {getattr(write, name)!r}"
    payload = _PAYLOADS.get(write.kind)
    if payload is None:
        yield f"  payload of an unknown kind: {_hex(write.payload)}"
        return
    try:
        message = payload.FromString(write.payload)
    except DecodeError as error:
        yield f"  payload that cannot be decoded ({error}): {_hex(write.payload)}"
        return
    yield f"  {payload.DESCRIPTOR.full_name}:"
    text = text_format.MessageToString(message, as_utf8=True, indent=4)
    yield text[:MAX_PAYLOAD_CHARACTERS].rstrip("\n")
    if len(text) > MAX_PAYLOAD_CHARACTERS:
        yield f"    ... and {len(text) - MAX_PAYLOAD_CHARACTERS:,} characters more"


def _hex(data: bytes) -> str:
    more = f" ... ({len(data):,} bytes)" if len(data) > MAX_HEX_BYTES else ""
    return data[:MAX_HEX_BYTES].hex(" ") + more
