"""grpc.health.v1: whether writes can be accepted and reads answered, kept up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import grpc
import structlog
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tracker_server.grpc.handlers import SERVICE

WRITES: Final = "tracker.writes"
"""Health name: whether writes are accepted."""
READS: Final = "tracker.reads"
"""Health name: whether reads are answered from the database."""
POLL_SECONDS: Final = 0.2
"""How often the predicates are asked."""

_log = structlog.get_logger()


class Health(health.aio.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """The health service. "" and the tracker's own name follow the writes: a server that cannot take them is of no use
    to a training job, while one without its database is.
    """

    def __init__(self, writes_accepted: Callable[[], bool], reads_answered: Callable[[], bool]) -> None:
        super().__init__()
        self._predicates = {
            "": writes_accepted,
            SERVICE.full_name: writes_accepted,
            WRITES: writes_accepted,
            READS: reads_answered,
        }
        self._known: dict[str, bool] = {}
        self._updater: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    async def start(self) -> None:
        """Sets every status, and goes on doing so."""
        await self._update()
        self._updater = asyncio.get_running_loop().create_task(self._keep_updating())

    async def give_up(self) -> None:
        """NOT_SERVING from now on, whatever the predicates say."""
        if self._updater:
            self._updater.cancel()
        await self.enter_graceful_shutdown()

    async def close(self) -> None:
        """Gives up, and ends the calls of watchers."""
        await self.give_up()
        self._closed.set()

    async def Watch(  # noqa: N802  # the name of the RPC
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]
    ) -> None:
        """As the base does, but ends on close: an open watch would hold up the server's stop for all of its grace."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({watch, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            closed.cancel()
            await asyncio.gather(watch, closed, return_exceptions=True)

    async def _keep_updating(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self._update()

    async def _update(self) -> None:
        for name, predicate in self._predicates.items():
            try:
                serving = predicate()
            except Exception:  # noqa: BLE001  # logged; a predicate that fails means "no", and the updater lives on
                _log.exception("health predicate failed", service=name)
                serving = False
            if self._known.get(name) != serving:
                self._known[name] = serving
                await self.set(name, HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)
