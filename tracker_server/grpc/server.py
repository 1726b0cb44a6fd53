"""The gRPC server's life: options, port, start, and a stop that loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc

from tracker_server import limits
from tracker_server.grpc.address import bind
from tracker_server.grpc.api_keys import ApiKeys
from tracker_server.grpc.handlers import Gate, tracker_handler
from tracker_server.grpc.health import Health
from tracker_server.grpc.reflection import add_reflection
from tracker_server.grpc.servicer import Servicer
from tracker_server.ingest import Ingest

OPTIONS: Final = (
    ("grpc.max_receive_message_length", limits.MAX_TRANSPORT_BYTES),
    ("grpc.max_send_message_length", -1),
    # Clients that ping once a minute, busy or idle, are welcome; grpc's own default hangs up on them.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    # Finds connections whose other end is gone without a word.
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
"""Options of the server."""

_log = structlog.get_logger()


class GrpcServer:
    """The server of one process, on the running event loop."""

    def __init__(
        self,
        *,
        listen: str,
        share_port: bool = False,
        servicer: Servicer,
        ingest: Ingest,
        reads_answered: Callable[[], bool],
        api_keys: Iterable[str] = (),
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """listen: HOST:PORT, port 0 for a free one; share_port: with other servers of this machine, among which the kernel
        spreads connections; reads_answered: whether the database is in reach.

        api_keys: of which calls of the service must bear one, health and reflection none; without them everybody may
        call. credentials: for TLS; None: plaintext.
        """
        self._listen = listen
        self._share_port = share_port
        self._servicer = servicer
        self._ingest = ingest
        self._reads_answered = reads_answered
        self._gate = Gate()
        self._api_keys = ApiKeys(api_keys)
        self._credentials = credentials
        self._health: Health | None = None
        self._server: grpc.aio.Server | None = None

    async def start(self) -> str:
        """Returns the address that it really listens on. Raises BadSetting when it cannot."""
        health = Health(lambda: self._ingest.accepting, self._reads_answered)
        # grpc's own default is 1: a second server on the port would start silently and take half of the connections.
        server = grpc.aio.server(options=(*OPTIONS, ("grpc.so_reuseport", int(self._share_port))))
        server.add_generic_rpc_handlers((tracker_handler(self._servicer, self._gate, self._api_keys),))
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        add_reflection(server)
        address = await bind(server, self._listen, "TRACKER_LISTEN", self._credentials, share_port=self._share_port)
        await health.start()
        await server.start()
        self._health, self._server = health, server
        return address

    async def stop(self, grace_seconds: float) -> None:
        """Health says NOT_SERVING, new calls are refused; those that run may finish; what is unconfirmed is waited for.

        All of it within grace_seconds. Writes that are still not confirmed then are answered with UNAVAILABLE. Does
        not close the publisher.
        """
        if self._server is None or self._health is None:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_seconds
        await self._health.give_up()
        await self._gate.shut(grace_seconds * _CALLS_SHARE)
        unconfirmed = await self._ingest.drain(max(0.0, (deadline - loop.time()) * _DRAIN_SHARE))
        await self._health.close()
        await self._server.stop(max(0.0, deadline - loop.time()))
        _log.info("server stopped", address=self._listen, unconfirmed_writes=unconfirmed)


_CALLS_SHARE: Final = 0.7
"""Of the grace, for the calls that run."""
_DRAIN_SHARE: Final = 0.7
"""Of what is then left of it, for confirms; the rest is for answers on their way."""
