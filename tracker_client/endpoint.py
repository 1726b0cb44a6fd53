"""Where the server is, and how to speak to it. Without grpc, so that training can check what it was told."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Final

from tracker_client.settings import DEFAULT_SERVER, BadSetting


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, and how to speak to it."""

    target: str
    """HOST:PORT."""
    tls: bool = False
    """Whether the connection is encrypted, and the server's certificate checked."""
    api_key: str = field(default="", repr=False)
    """Sent with every call; empty: none."""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """To be sent with every call."""
        return (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()


def endpoint(server: str | None = None, api_key: str | None = None) -> Endpoint:
    """The server that is meant; what is None comes from TRACKER_SERVER and TRACKER_API_KEY.

    server: HOST:PORT, with http:// or grpc:// or nothing before it for plaintext, https:// or grpcs:// for TLS.

    Raises BadSetting.
    """
    place, key_place = "server", "api_key"
    if server is None:
        place = "TRACKER_SERVER"
        server = os.environ.get(place, "").strip() or DEFAULT_SERVER
    if api_key is None:
        key_place = "TRACKER_API_KEY"
        api_key = os.environ.get(key_place, "")
    scheme, separator, rest = server.partition("://")
    address = _ADDRESS.fullmatch(rest if separator else server)
    if (separator and scheme.lower() not in _TLS) or address is None or not 0 < int(address["port"]) <= _MAX_PORT:
        raise BadSetting(
            f"{place} is {server!r}; it must be HOST:PORT, with https:// or grpcs:// before it for TLS, "
            "and http://, grpc:// or nothing for plaintext"
        )
    return Endpoint(address["target"], _TLS[scheme.lower()] if separator else False, _checked_key(api_key, key_place))


_TLS: Final = {"http": False, "grpc": False, "https": True, "grpcs": True}
_MAX_PORT: Final = 65_535
_ADDRESS: Final = re.compile(r"(?P<target>(?:\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s/:@\[\]]+):(?P<port>[0-9]{1,5}))/?")
_KEY: Final = re.compile(r"[!-~]*")


def _checked_key(key: str, place: str) -> str:
    """The key without the line break that files end with. What is wrong is told without showing it."""
    key = key.strip()
    if not _KEY.fullmatch(key):
        raise BadSetting(f"{place} has characters that no API key has: spaces, control characters or non-ASCII ones")
    return key
