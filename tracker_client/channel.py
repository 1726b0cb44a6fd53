"""Where the server is, and a channel to it that is set up for this service."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Final

import grpc
import grpc.aio

from tracker_client.settings import DEFAULT_SERVER, BadSetting

MAX_RECEIVE_BYTES: Final = 16 * 1024 * 1024
"""Largest answer that is taken. Pages end at 3 MiB, but one item always fits, whatever its size."""

CHANNEL_OPTIONS: Final = (
    # Finds a connection that is gone without a word, and keeps one alive that a NAT would forget. Servers of this
    # service welcome a ping every 20 s; a minute leaves room for proxies in between.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    # What is too large is refused by the server, with a typed error.
    ("grpc.max_send_message_length", -1),
    # grpc's own waits grow to two minutes: a server that is back would not be noticed within a call's deadline.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Really how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # No retry policy from DNS: whether and when to retry is decided in retry.py, and nowhere else.
    ("grpc.service_config_disable_resolution", 1),
)
"""Options of every channel."""


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


def open_channel(to: Endpoint) -> grpc.Channel:
    """A channel. It connects by itself, when first used."""
    if to.tls:
        return grpc.secure_channel(to.target, grpc.ssl_channel_credentials(), CHANNEL_OPTIONS)
    return grpc.insecure_channel(to.target, CHANNEL_OPTIONS)


def open_aio_channel(to: Endpoint) -> grpc.aio.Channel:
    """The same for asyncio; to be called on the loop that uses it."""
    if to.tls:
        return grpc.aio.secure_channel(to.target, grpc.ssl_channel_credentials(), CHANNEL_OPTIONS)
    return grpc.aio.insecure_channel(to.target, CHANNEL_OPTIONS)


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
