"""What a dead letter looks like on its queue: the headers that say what it was and why it lies there."""

from __future__ import annotations

import functools
import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Final

import pika

from tracker_server.broker.topology import partition_of_queue
from tracker_server.ports import DeadLetter

MAX_REASON_LENGTH: Final = 1_000
"""Characters; reasons may quote data."""


@dataclass(frozen=True, slots=True)
class DeadLetterInfo:
    """A dead letter as it is listed."""

    id: str
    """Stays the same until it is replayed or purged."""
    reason: str
    """Why it lies here, for people."""
    partition: int | None
    """Where a replay would put it; None: nowhere, it is foreign."""
    scope_id: str
    """The run or experiment; empty where it is not known."""
    writer_id: str
    sequence: int
    died_at: str
    """ISO 8601, UTC; empty where it is not known."""
    version: str
    """Of the software that buried it; empty when the broker did."""
    size_bytes: int


def letter_properties(letter: DeadLetter) -> Any:
    """pika's properties for a letter: persistent, with an id and the headers."""
    now = datetime.now(UTC)
    return pika.BasicProperties(
        content_type="application/x-protobuf",
        delivery_mode=2,
        message_id=uuid.uuid4().hex,
        timestamp=int(time.time()),
        headers={
            "reason": _sendable(letter.reason)[:MAX_REASON_LENGTH],
            "partition": letter.partition,
            "scope": _sendable(letter.scope_id),
            "writer": _sendable(letter.writer_id),
            "sequence": letter.sequence,
            "died_at": now.isoformat(timespec="milliseconds"),
            "version": _version(),
        },
    )


def read_letter(properties: Any, body: bytes) -> DeadLetterInfo:
    """A letter's facts, also of one that the broker itself put there. Never raises."""
    headers: Mapping[str, Any] = properties.headers or {}
    # Without an id of its own (somebody published it by hand) its content has to do.
    identity = properties.message_id or f"body-{hashlib.blake2b(body, digest_size=12).hexdigest()}"
    if "reason" in headers:
        return DeadLetterInfo(
            id=identity,
            reason=str(headers["reason"]),
            partition=_number(headers.get("partition")),
            scope_id=str(headers.get("scope", "")),
            writer_id=str(headers.get("writer", "")),
            sequence=_number(headers.get("sequence")) or 0,
            died_at=str(headers.get("died_at", "")),
            version=str(headers.get("version", "")),
            size_bytes=len(body),
        )
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    when = death.get("time")
    return DeadLetterInfo(
        id=identity,
        reason=f"broker: {death.get('reason', 'no reason given')}",
        partition=partition_of_queue(str(death.get("queue", ""))),
        scope_id="",
        writer_id="",
        sequence=0,
        # pika gives the broker's UTC time without a zone.
        died_at=when.replace(tzinfo=UTC).isoformat() if isinstance(when, datetime) else "",
        version="",
        size_bytes=len(body),
    )


def _sendable(text: str) -> str:
    """Without lone surrogates, which no header can carry."""
    return text.encode(errors="replace").decode()


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


@functools.cache
def _version() -> str:
    try:
        return metadata.version("experiment-tracker")
    except metadata.PackageNotFoundError:
        return "unknown"
