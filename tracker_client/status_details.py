"""What a server says of an error beyond code and message: the google.rpc details of `grpc-status-details-bin`.

The package that has google.rpc's messages is no part of the client's install, so the few fields that matter are
described here, in a pool of their own where they meet no other description of the same messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

METADATA_KEY: Final = "grpc-status-details-bin"
"""Where they travel, in a call's trailing metadata."""


@dataclass(frozen=True, slots=True)
class Details:
    """The details of one error; empty where it has none."""

    domain: str = ""
    """Whose reason it is: `tracker.v1` when it comes from the service itself."""
    reason: str = ""
    """Stable, upper-case."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Facts that go with the reason."""
    violations: tuple[tuple[str, str], ...] = ()
    """Each field that is wrong, and what is wrong with it."""
    retry_after: float | None = None
    """Seconds after which the same call may succeed; None when the server names none."""


def read_details(body: bytes) -> Details:
    """Reads an encoded google.rpc.Status. What cannot be read counts as absent: an error must not hide another."""
    found: dict[str, Any] = {}
    status = _read("Status", body)
    for detail in status.details if status is not None else ():
        name = detail.type_url.rpartition("/google.rpc.")[2]
        if name in _DETAILS and name not in found:
            found[name] = _read(name, detail.value)
    info, bad, retry = (found.get(name) for name in _DETAILS)
    return Details(
        domain=info.domain if info else "",
        reason=info.reason if info else "",
        metadata={entry.key: entry.value for entry in info.metadata} if info else {},
        violations=tuple((each.field, each.description) for each in bad.field_violations) if bad else (),
        retry_after=max(0.0, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9) if retry else None,
    )


_DETAILS: Final = ("ErrorInfo", "BadRequest", "RetryInfo")
# Message, then field: (number, type), a name being that of another message. Repeated fields are in _REPEATED. What is
# not here is skipped in reading. A map is on the wire a list of entries.
_MESSAGES: Final[Mapping[str, Mapping[str, tuple[int, int | str]]]] = {
    "Status": {"details": (3, "Detail")},
    "Detail": {"type_url": (1, FieldDescriptorProto.TYPE_STRING), "value": (2, FieldDescriptorProto.TYPE_BYTES)},
    "ErrorInfo": {
        "reason": (1, FieldDescriptorProto.TYPE_STRING),
        "domain": (2, FieldDescriptorProto.TYPE_STRING),
        "metadata": (3, "Entry"),
    },
    "Entry": {"key": (1, FieldDescriptorProto.TYPE_STRING), "value": (2, FieldDescriptorProto.TYPE_STRING)},
    "BadRequest": {"field_violations": (1, "Violation")},
    "Violation": {
        "field": (1, FieldDescriptorProto.TYPE_STRING),
        "description": (2, FieldDescriptorProto.TYPE_STRING),
    },
    "RetryInfo": {"retry_delay": (1, "Duration")},
    "Duration": {"seconds": (1, FieldDescriptorProto.TYPE_INT64), "nanos": (2, FieldDescriptorProto.TYPE_INT32)},
}
_REPEATED: Final = frozenset({"details", "metadata", "field_violations"})


def _classes() -> dict[str, Any]:
    package = "tracker_client.status_details"
    file = FileDescriptorProto(name="tracker_client/status_details.proto", package=package, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            described = message.field.add(name=field_name, number=number)
            repeated = field_name in _REPEATED
            described.label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            if isinstance(kind, str):
                described.type = FieldDescriptorProto.TYPE_MESSAGE
                described.type_name = f".{package}.{kind}"
            else:
                described.type = kind  # type: ignore[assignment]  # one of the enum's values, which are plain integers
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in _MESSAGES}


_CLASSES: Final = _classes()


def _read(name: str, body: bytes) -> Any:
    """A message, or None for bytes that are none."""
    try:
        return _CLASSES[name].FromString(body)
    except DecodeError:
        return None
