"""Redis' wire format (RESP2), as far as the cache needs it: commands to bytes, bytes to replies. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

Command = tuple[bytes | int, ...]
Reply = Any  # bytes, int, list, None, or a RedisError as a value

_ERRORS: Final[dict[str, type[RedisError]]] = {
    "LOADING": BusyLoadingError,
    "NOAUTH": AuthenticationError,
    "WRONGPASS": AuthenticationError,
    "NOPERM": NoPermissionError,
    "OOM": OutOfMemoryError,
    "READONLY": ReadOnlyError,
}
_STATUS, _ERROR, _INTEGER, _BULK, _ARRAY = b"+-:$*"
_LONGEST_LINE: Final = 64 * 1024
_INCOMPLETE: Final = -1


def pack(commands: Sequence[Command]) -> bytes:
    """Commands as they are sent, one after the other."""
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            value = b"%d" % argument if isinstance(argument, int) else argument
            parts += (b"$%d\r\n" % len(value), value, b"\r\n")
    return b"".join(parts)


class Parser:
    """Takes bytes as they come, and gives replies as they are complete."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that these bytes complete. Raises redis.exceptions.ConnectionError for what is no reply."""
        buffer: bytes | bytearray = data
        if self._rest:
            self._rest += data
            buffer = self._rest
        replies: list[Reply] = []
        at = 0
        try:
            while at < len(buffer):
                reply, end = _parse(buffer, at)
                if end == _INCOMPLETE:
                    break
                replies.append(reply)
                at = end
        except (ValueError, TypeError) as error:
            message = "the server does not speak Redis' protocol"
            raise RedisConnectionError(message) from error
        if buffer is self._rest:
            del self._rest[:at]
        elif at < len(data):
            self._rest += data[at:]
        return replies


def _parse(buffer: bytes | bytearray, at: int) -> tuple[Reply, int]:
    """The reply that begins here, and where it ends; _INCOMPLETE when more bytes are needed."""
    line_end = buffer.find(b"\r\n", at, at + _LONGEST_LINE)
    if line_end < 0:
        if buffer[at] not in b"+-:$*" or len(buffer) - at >= _LONGEST_LINE:
            raise ValueError
        return None, _INCOMPLETE
    kind, line, after = buffer[at], buffer[at + 1 : line_end], line_end + 2
    if kind == _BULK:
        return _parse_bulk(buffer, int(line), after)
    if kind == _ARRAY:
        count = int(line)
        if count < 0:
            return None, after
        items: list[Reply] = []
        for _ in range(count):
            if after >= len(buffer):
                return None, _INCOMPLETE
            item, after = _parse(buffer, after)
            if after == _INCOMPLETE:
                return None, _INCOMPLETE
            items.append(item)
        return items, after
    if kind == _STATUS:
        return bytes(line), after
    if kind == _INTEGER:
        return int(line), after
    if kind == _ERROR:
        text = line.decode("utf-8", "replace")
        return _ERRORS.get(text.partition(" ")[0], ResponseError)(text), after
    raise ValueError


def _parse_bulk(buffer: bytes | bytearray, length: int, at: int) -> tuple[Reply, int]:
    if length < 0:
        return None, at
    end = at + length
    if len(buffer) < end + 2:
        return None, _INCOMPLETE
    return bytes(buffer[at:end]), end + 2
