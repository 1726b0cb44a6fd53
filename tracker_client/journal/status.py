"""A page that the sender writes and a journal's owner reads: what has arrived, and what the server said.

Both sides map the file; nobody waits for anybody. Numbers are single aligned words; texts have a checksum.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final
from zlib import crc32

SIZE: Final = 4096
"""Bytes of the page."""
_NUMBERS: Final = struct.Struct("=QQQQQd")
"""Acknowledged sequence, acknowledged points, refused writes, connection and flags, times written, last contact."""
_TEXT_HEADER: Final = struct.Struct("=II")
_MESSAGE_AT: Final = 128
_TOKEN_AT: Final = 2048
_TEXT_BYTES: Final = 1024
_STOP: Final = 1 << 8
_CLOSED: Final = 1 << 9


class Connection(IntEnum):
    """How the sender and its server get on."""

    UNKNOWN = 0
    """No sender has looked at this journal yet."""
    CONNECTED = 1
    """The last call was answered."""
    UNREACHABLE = 2
    """The server does not answer, or is overloaded; it is tried again."""
    REFUSED = 3
    """The server answers and takes nothing, because of a wrong API key for example; it is tried again."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the page says."""

    acknowledged: int = 0
    """Every sequence up to this one is durable at the server."""
    points: int = 0
    """Points in those sequences."""
    refused: int = 0
    """Writes that the server can never take; they lie in the folder of refused ones."""
    connection: Connection = Connection.UNKNOWN
    stop_requested: bool = False
    """Somebody asked the run to stop."""
    closed: bool = False
    """The end of the journal has been acknowledged too: nothing is left to send."""
    beats: int = 0
    """Grows whenever the sender looks at the journal."""
    last_contact: float = 0.0
    """When the server last answered, in seconds since 1970."""
    message: str = ""
    """The last thing that went wrong, for people. Empty when nothing is wrong."""
    write_token: str = ""
    """Of the last acknowledged write; empty before the first."""


class StatusPage:
    """A mapped page."""

    def __init__(self, path: Path) -> None:
        """Maps the page, made if need be. Raises OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.posix_fallocate(descriptor, 0, SIZE)
            self._map = mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)
        self._texts: dict[int, str] = {}

    @property
    def stop_requested(self) -> bool:
        """The one thing that training asks for at every step."""
        return bool(self._map[25] & 1)

    def read(self) -> Status:
        """What it says now."""
        acknowledged, points, refused, flags, beats, last_contact = _NUMBERS.unpack_from(self._map)
        return Status(
            acknowledged=acknowledged,
            points=points,
            refused=refused,
            connection=_connection(flags & 0xFF),
            stop_requested=bool(flags & _STOP),
            closed=bool(flags & _CLOSED),
            beats=beats,
            last_contact=last_contact,
            message=self._read_text(_MESSAGE_AT),
            write_token=self._read_text(_TOKEN_AT),
        )

    def write(self, status: Status) -> None:
        """Says it."""
        flags = status.connection | _STOP * status.stop_requested | _CLOSED * status.closed
        # Texts first: who sees the new numbers sees the texts that belong to them.
        self._write_text(_MESSAGE_AT, status.message)
        self._write_text(_TOKEN_AT, status.write_token)
        _NUMBERS.pack_into(
            self._map, 0, status.acknowledged, status.points, status.refused, flags, status.beats, status.last_contact
        )

    def close(self) -> None:
        """Unmaps it. Idempotent."""
        self._map.close()

    def _read_text(self, at: int) -> str:
        length, checksum = _TEXT_HEADER.unpack_from(self._map, at)
        start = at + _TEXT_HEADER.size
        text = self._map[start : start + min(length, _TEXT_BYTES)]
        if crc32(text) == checksum:
            self._texts[at] = text.decode(errors="replace")
        # A text that is being written just now: the one before.
        return self._texts.get(at, "")

    def _write_text(self, at: int, text: str) -> None:
        data = text.encode(errors="replace")[:_TEXT_BYTES]
        start = at + _TEXT_HEADER.size
        if self._texts.get(at) != text:
            self._map[start : start + len(data)] = data
            _TEXT_HEADER.pack_into(self._map, at, len(data), crc32(data))
            self._texts[at] = text


def _connection(number: int) -> Connection:
    """What a number stands for; one that this version does not know stands for nothing."""
    return Connection(number) if number in _CONNECTIONS else Connection.UNKNOWN


_CONNECTIONS: Final = frozenset(Connection)
