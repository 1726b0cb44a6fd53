"""The ChangeFeed port on RabbitMQ: a queue of this server's own, which forgets what is not read in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog
from google.protobuf.message import DecodeError

from tracker.internal.v1.envelope_pb2 import ChangeNotice
from tracker_server.broker.amqp import AmqpError, ChannelClosed, Connection
from tracker_server.broker.connection import KeptConnection
from tracker_server.broker.topology import CHANGES, Topology
from tracker_server.config import Settings
from tracker_server.ports import Revisions

MAX_NOTICES: Final = 100
"""Notices that wait for this server, at most; the oldest are dropped, as newer ones say more."""
_log = structlog.get_logger(__name__)


class RabbitChangeFeed:
    """Listens on a connection of its own, made anew for ever."""

    def __init__(self, settings: Settings) -> None:
        """Raises BadSetting when the broker's URL cannot be read."""
        self._topology = Topology(settings)
        self._kept = KeptConnection(settings, "changes", self._session)
        self._on_change: Callable[[Revisions], None] = lambda _: None
        self.connected = False
        """Whether notices can arrive just now."""

    async def start(self, on_change: Callable[[Revisions], None]) -> None:
        """See ports.ChangeFeed."""
        self._on_change = on_change
        self._kept.start()

    async def close(self) -> None:
        """See ports.ChangeFeed."""
        await self._kept.close()

    async def _session(self, connection: Connection) -> None:
        lost: asyncio.Future[ChannelClosed] = asyncio.get_running_loop().create_future()
        await self._topology.declare_exchanges(connection)
        channel = await connection.channel(lambda cause: None if lost.done() else lost.set_result(cause))
        # The broker cancels it when somebody deletes the queue.
        channel.raw.add_on_cancel_callback(
            lambda _: None if lost.done() else lost.set_result(ChannelClosed(0, "the queue of notices was deleted"))
        )
        await channel.listen(CHANGES, {"x-max-length": MAX_NOTICES, "x-overflow": "drop-head"}, self._on_message)
        self._kept.established()
        self.connected = True
        try:
            raise AmqpError(str(await lost))
        finally:
            self.connected = False

    def _on_message(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        try:
            notice = ChangeNotice.FromString(body)
        except DecodeError:
            _log.warning("notice_not_understood", bytes=len(body))
            return
        self._on_change(dict(notice.revisions))
