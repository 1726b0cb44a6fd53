"""How the cache lies in Redis: keys, and what stands before a value.

`PREFIX:epoch`               16 random bytes
`PREFIX:{SCOPE}:gen`         16 random bytes
`PREFIX:{SCOPE}:value:KEY`   format, generation, epoch, server, then the value itself

The braces are the hash tag by which a Redis cluster keeps a scope's keys together.
"""

from __future__ import annotations

import secrets
from typing import Any, Final, TypeGuard

RANDOM_BYTES: Final = 16
"""Of a generation or an epoch."""
SERVER_BYTES: Final = 16
"""Of the identity of a server."""
STAMP_BYTES: Final = 2 * RANDOM_BYTES + SERVER_BYTES
"""What a value is filled under: generation, epoch, server."""
_FORMAT: Final = b"TC1"
"""First bytes of a stored value; another layout needs another format."""
_HEADER_BYTES: Final = len(_FORMAT) + STAMP_BYTES


class Keys:
    """The keys under one prefix."""

    __slots__ = ("_prefix", "epoch")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.epoch = f"{prefix}:epoch".encode()

    def generation(self, scope: str) -> bytes:
        """Key of a scope's generation."""
        return f"{self._prefix}:{{{_tag(scope)}}}:gen".encode("utf-8", "surrogatepass")

    def value(self, scope: str, key: str) -> bytes:
        """Key of a value."""
        return f"{self._prefix}:{{{_tag(scope)}}}:value:{key}".encode("utf-8", "surrogatepass")


def new_random() -> bytes:
    """A generation, or an epoch, that never was."""
    return secrets.token_bytes(RANDOM_BYTES)


def is_random(reply: Any) -> TypeGuard[bytes]:
    """Whether a reply is a generation or an epoch, and not nothing, an error or something foreign."""
    return isinstance(reply, bytes) and len(reply) == RANDOM_BYTES


def stamped(value: bytes, stamp: bytes) -> bytes:
    """A value as it is stored."""
    return b"".join((_FORMAT, stamp, value))


def value_under(stamp: bytes, stored: Any) -> bytes | None:
    """The value, if what is stored has this format and this stamp."""
    if isinstance(stored, bytes) and stored.startswith(_FORMAT) and stored.startswith(stamp, len(_FORMAT)):
        return stored[_HEADER_BYTES:]
    return None


def _tag(scope: str) -> str:
    """A scope without braces, and never empty: another scope's hash tag is always another."""
    if not scope:
        return "%"
    return scope.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
