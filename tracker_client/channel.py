"""A channel to a server, set up for this service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import grpc
import grpc.aio

from tracker_client.endpoint import Endpoint

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


def open_channel(to: Endpoint, *, own_connection: bool = False) -> grpc.Channel:
    """A channel. It connects by itself, when first used.

    own_connection: not one that it shares with other channels of this process, and with it the pause before it is made anew.
    """
    options = _options(own_connection=own_connection)
    if to.tls:
        return grpc.secure_channel(to.target, grpc.ssl_channel_credentials(), options)
    return grpc.insecure_channel(to.target, options)


def open_aio_channel(to: Endpoint, *, own_connection: bool = False) -> grpc.aio.Channel:
    """The same for asyncio; to be called on the loop that uses it."""
    options = _options(own_connection=own_connection)
    if to.tls:
        return grpc.aio.secure_channel(to.target, grpc.ssl_channel_credentials(), options)
    return grpc.aio.insecure_channel(to.target, options)


def _options(*, own_connection: bool) -> Sequence[tuple[str, int]]:
    return (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)) if own_connection else CHANNEL_OPTIONS
