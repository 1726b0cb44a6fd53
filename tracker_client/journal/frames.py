"""The bytes of a journal: a segment's header, and the frames that follow it.

A segment is a file of a fixed size, zeroed when it is made. After its header come frames, each aligned to 8 bytes:

    length of the payload (u32), CRC-32 of the payload (u32), payload, padding

A payload begins with its kind (low 8 bits of a u32, the schema's number above them) and the sequence of the batch that it
belongs to (u32). Length and checksum are written last, so a frame is either whole or not there. All little-endian.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final
from zlib import crc32

VERSION: Final = 1
"""Of this layout; a reader leaves segments of another one alone."""
ALIGNMENT: Final = 8
FRAME_HEADER: Final = struct.Struct("<II")
"""Length and CRC-32 of the payload."""
PREFIX: Final = struct.Struct("<II")
"""Kind and schema, sequence."""
ROW_PREFIX: Final = struct.Struct("<IIqq")
"""Kind and schema, sequence, step, time in milliseconds since 1970; a float64 per column follows."""
ROW_START: Final = PREFIX.size
"""Where in a points payload the row (step, time, values) begins: 8-byte items from there on."""
MESSAGE_PREFIX: Final = struct.Struct("<III")
"""Kind, sequence, number of the method; the request follows."""
DROPPED: Final = struct.Struct("<IIQ")
"""Kind, sequence, points given up."""
LARGEST_MESSAGE: Final = 1_900_000
"""Bytes of the largest request that is taken: servers refuse larger ones, and it fits into any segment but the first."""
LARGEST_FRAME: Final = 2 * 1024 * 1024
"""No frame is larger; a length above it is rubbish."""
_MAGIC: Final = b"TRKJRNL\x01"
_SEGMENT_HEADER: Final = struct.Struct("<8sII")
"""Magic, length and CRC-32 of the JSON that follows."""


class Kind(IntEnum):
    """What a frame holds."""

    POINTS = 1
    """One row: step, time, and a value for each name of its schema."""
    SCHEMA = 2
    """Number and names of a schema; valid within its segment."""
    MESSAGE = 3
    """A whole request, with a sequence of its own."""
    BATCH_END = 4
    """No more rows will be added to the batch."""
    DROPPED = 5
    """A number of points that could not be kept, with a sequence of its own."""
    CLOSED = 6
    """The process is done with this run; the sequence is the last one used."""


class Method(IntEnum):
    """Which call a message is for."""

    START_RUN = 1
    UPDATE_RUN = 2
    RUN_COMPLETED = 3
    UPDATE_EXPERIMENT = 4
    """Of the run's experiment. The run's own sequence is used up by a void write that follows it."""
    REWIND_RUN = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose journal it is: everything that is needed to send it, by whoever finds it."""

    run_id: str
    writer_id: str
    attempt: int
    server: str
    """Where it is to be sent to."""


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself."""

    identity: Identity
    number: int
    """Position among the segments of its journal, from 1."""
    first_sequence: int
    """The first sequence that may occur in it."""
    boot: str
    """Which start of the machine it was written in: after another one, its last second may be missing."""

    def encode(self) -> bytes:
        """The bytes at the beginning of the segment."""
        fields = {"number": self.number, "first_sequence": self.first_sequence, "boot": self.boot}
        text = json.dumps({"version": VERSION, **asdict(self.identity), **fields}).encode()
        return padded(_SEGMENT_HEADER.pack(_MAGIC, len(text), crc32(text)) + text)


def decode_segment_header(data: bytes | memoryview) -> tuple[SegmentHeader, int] | None:
    """The header at the beginning of a segment, and where its frames begin; None when there is no whole one."""
    if len(data) < _SEGMENT_HEADER.size:
        return None
    magic, length, checksum = _SEGMENT_HEADER.unpack_from(data)
    text = bytes(data[_SEGMENT_HEADER.size : _SEGMENT_HEADER.size + length]) if magic == _MAGIC else b""
    if magic != _MAGIC or len(text) != length or crc32(text) != checksum:
        return None
    fields = json.loads(text)
    if fields["version"] != VERSION:
        return None
    identity = Identity(fields["run_id"], fields["writer_id"], fields["attempt"], fields["server"])
    end = aligned(_SEGMENT_HEADER.size + length)
    return SegmentHeader(identity, fields["number"], fields["first_sequence"], fields["boot"]), end


def present_boot() -> str:
    """Which start of the machine this is; empty where the system does not say."""
    try:
        # Not as ASCII: that codec is imported when it is first used, and a signal handler that runs meanwhile finds none.
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def aligned(size: int) -> int:
    """The next multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def padded(data: bytes) -> bytes:
    """Filled up with zeros to a multiple of the alignment."""
    return data.ljust(aligned(len(data)), b"\0")


def frame_size(payload_length: int) -> int:
    """Bytes that a frame takes up."""
    return aligned(FRAME_HEADER.size + payload_length)


def schema_payload(number: int, sequence: int, names: tuple[str, ...]) -> bytes:
    """The payload that gives a schema's names."""
    return PREFIX.pack(Kind.SCHEMA | number << 8, sequence) + json.dumps(names).encode()


def mark_payload(kind: Kind, sequence: int) -> bytes:
    """The payload of a batch's or a writer's end."""
    return PREFIX.pack(kind, sequence)


def message_payload(sequence: int, method: Method, request: bytes) -> bytes:
    """The payload of a whole request."""
    return MESSAGE_PREFIX.pack(Kind.MESSAGE, sequence, method) + request


def dropped_payload(sequence: int, points: int) -> bytes:
    """The payload that says how many points were given up."""
    return DROPPED.pack(Kind.DROPPED, sequence, points)
