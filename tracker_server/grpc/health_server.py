"""grpc.health.v1 for a process that serves nothing else: a consumer."""

from __future__ import annotations

from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2_grpc

from tracker_server.grpc.address import bind
from tracker_server.grpc.health import Health


class HealthServer:
    """Answers health checks on a port of its own."""

    def __init__(self, listen: str, healthy: Callable[[], bool]) -> None:
        """listen: HOST:PORT."""
        self._listen = listen
        self._health = Health(healthy, healthy)
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Raises BadSetting when it cannot listen."""
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        await bind(server, self._listen, "TRACKER_HEALTH_LISTEN")
        await self._health.start()
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Says NOT_SERVING and ends."""
        await self._health.close()
        if self._server is not None:
            await self._server.stop(1.0)
