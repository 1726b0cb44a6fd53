"""The API keys of which a call must bear one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from tracker_server.errors import InvalidApiKey, Unauthenticated

_HEADER = "authorization"
_SCHEME = "bearer"


class ApiKeys:
    """Without keys, everybody is let in."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        # Of digests the comparison takes equally long however long the key is, and a dump of memory holds no key.
        self._digests = [_digest(key) for key in keys]

    @property
    def wanted(self) -> bool:
        """Whether calls need one."""
        return bool(self._digests)

    def check(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """Looks for `authorization: Bearer <key>` among a call's metadata. Raises Unauthenticated or InvalidApiKey."""
        if not self._digests:
            return
        given = next((value for name, value in metadata or () if name == _HEADER), "")
        scheme, _, key = (given if isinstance(given, str) else given.decode(errors="replace")).partition(" ")
        if scheme.lower() != _SCHEME or not key.strip():
            raise Unauthenticated
        digest = _digest(key.strip())
        # All of them, though one matches: the time taken tells nothing.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise InvalidApiKey


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
