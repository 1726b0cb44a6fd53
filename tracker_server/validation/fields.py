"""The rules of single fields. Each function adds what is wrong to the violations it is given."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tracker_server import limits
from tracker_server.ids import ID
from tracker_server.validation.violations import Violations, entry, shown

CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
"""Any character of Unicode's category Cc."""


def check_id(violations: Violations, field: str, value: str, *, optional: bool = False) -> None:
    """A run or an experiment id."""
    if ID.fullmatch(value) or (optional and not value):
        return
    if not value:
        violations.add(field, f"is empty; it must be 1 to {limits.MAX_ID_LENGTH} characters of {_ALPHABET}")
    else:
        violations.add(field, f"is {shown(value)}; it must be 1 to {limits.MAX_ID_LENGTH} characters of {_ALPHABET}")


def check_writer_id(violations: Violations, value: str) -> None:
    """A writer id that must be there."""
    if len(value) < limits.MIN_WRITER_ID_LENGTH or not ID.fullmatch(value):
        violations.add(
            "writer_id",
            f"is {shown(value)}; it must be {limits.MIN_WRITER_ID_LENGTH} to {limits.MAX_ID_LENGTH} characters of "
            f"{_ALPHABET}: a UUID minted by each process, since a fixed name with a restarted count would lose data",
        )


def check_writer(violations: Violations, writer_id: str, sequence: int) -> None:
    """The pair of a write: both or neither."""
    if not writer_id and not sequence:
        return
    if not writer_id:
        violations.add("writer_id", f"is empty though sequence is {sequence}; give both or neither")
    else:
        check_writer_id(violations, writer_id)
    if not sequence:
        violations.add("sequence", "is 0 though writer_id is given; give both or neither, counting from 1")
    elif sequence < 0:
        violations.add("sequence", f"is {sequence}; it must be at least 1")


def check_attempt(violations: Violations, value: int) -> None:
    """An attempt's number."""
    check_not_negative(violations, "attempt", value)


def check_not_negative(violations: Violations, field: str, value: int) -> None:
    """A count."""
    if value < 0:
        violations.add(field, f"is {value}; it must be at least 0")


def check_name(violations: Violations, field: str, value: str) -> None:
    """A metric's name."""
    _check_length(violations, field, value)
    if found := CONTROL.search(value):
        violations.add(
            field,
            f"is {shown(value)}, with U+{ord(found[0]):04X} at position {found.start()}; control characters are not "
            "allowed",
        )


def check_key(violations: Violations, field: str, value: str) -> None:
    """A tag, or the key of a map."""
    _check_length(violations, field, value)
    check_no_nul(violations, field, value)


def check_display_name(violations: Violations, field: str, value: str) -> None:
    """A name for people; empty when there is none."""
    check_text(violations, field, value, limits.MAX_NAME_LENGTH)


def check_text(violations: Violations, field: str, value: str, longest: int = limits.MAX_TEXT_LENGTH) -> None:
    """Free text; may be empty."""
    if len(value) > longest:
        violations.add(field, f"is {shown(value)}; it must be at most {longest} characters")
    check_no_nul(violations, field, value)


def check_no_nul(violations: Violations, field: str, value: str) -> None:
    """The one character that PostgreSQL cannot store."""
    position = value.find("\0")
    if position >= 0:
        violations.add(field, f"is {shown(value)}, with U+0000 at position {position}, which is not allowed")


def check_tags(violations: Violations, field: str, tags: Collection[str]) -> None:
    """Labels."""
    check_entries(violations, field, tags)
    for index, tag in enumerate(tags):
        check_key(violations, f"{field}[{index}]", tag)


def check_texts(violations: Violations, field: str, texts: Mapping[str, str]) -> None:
    """A map of free text: metadata or artifacts."""
    check_entries(violations, field, texts)
    for key, value in texts.items():
        path = entry(field, key)
        check_key(violations, path, key)
        check_text(violations, path, value)


def check_entries(violations: Violations, field: str, entries: Collection[str]) -> None:
    """How many entries a list or a map has."""
    if len(entries) > limits.MAX_ENTRIES:
        violations.add(field, f"has {len(entries)} entries; at most {limits.MAX_ENTRIES} are taken in one request")


def check_timestamp(violations: Violations, request: Message, timestamp: Timestamp) -> None:
    """The field `timestamp` of a request, where it is set."""
    if not request.HasField("timestamp"):
        return
    if not _MIN_SECONDS <= timestamp.seconds <= _MAX_SECONDS:
        violations.add(
            "timestamp.seconds",
            f"is {timestamp.seconds}; it must be {_MIN_SECONDS} to {_MAX_SECONDS}: from year 1 to 9999",
        )
    if not 0 <= timestamp.nanos <= _MAX_NANOS:
        violations.add("timestamp.nanos", f"is {timestamp.nanos}; it must be 0 to {_MAX_NANOS}")


def check_unique(violations: Violations, field: str, values: Iterable[str]) -> None:
    """A list in which nothing may be said twice."""
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        first = seen.setdefault(value, index)
        if first != index:
            violations.add(f"{field}[{index}]", f"is {shown(value)}, as {field}[{first}] is; name each once")


_ALPHABET: Final = "A-Z, a-z, 0-9, '.', '_' and '-'"
_MIN_SECONDS: Final = limits.MIN_TIME_MS // 1000
_MAX_SECONDS: Final = limits.MAX_TIME_MS // 1000
_MAX_NANOS: Final = 999_999_999


def _check_length(violations: Violations, field: str, value: str) -> None:
    if not value:
        violations.add(field, f"is empty; it must be 1 to {limits.MAX_NAME_LENGTH} characters")
    elif len(value) > limits.MAX_NAME_LENGTH:
        violations.add(field, f"is {shown(value)}; it must be 1 to {limits.MAX_NAME_LENGTH} characters")
