"""A kept connection with a confirm channel on it: what the publisher and the writer of dead letters share."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from tracker_server.broker.amqp import STEP_SECONDS, AmqpError, Connection
from tracker_server.broker.confirms import ConfirmChannel
from tracker_server.broker.connection import KeptConnection
from tracker_server.broker.topology import Topology
from tracker_server.config import Settings
from tracker_server.errors import BrokerUnavailable

_log = structlog.get_logger(__name__)


class Sender:
    """Publishes while there is a connection that the broker does not block; refuses at once while there is none."""

    def __init__(self, settings: Settings, purpose: str, confirm_seconds: float) -> None:
        """Raises BadSetting when the broker's URL cannot be read."""
        self._purpose = purpose
        self._confirm_seconds = confirm_seconds
        self._topology = Topology(settings)
        self._kept = KeptConnection(settings, purpose, self._session, self._on_blocked)
        self._confirms: ConfirmChannel | None = None
        self._blocked = False
        self._blocked_reason = ""
        self._queue_missing = False
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()

    @property
    def accepting(self) -> bool:
        """Whether a message would be sent just now."""
        return self._confirms is not None and not self._blocked

    def start(self) -> None:
        """Begins to connect, and goes on for ever."""
        self._kept.start()

    async def wait_until_ready(self, seconds: float) -> None:
        """Waits for a connection. Raises BrokerUnavailable when there is none by then."""
        try:
            async with asyncio.timeout(seconds):
                await self._ready.wait()
        except TimeoutError:
            self._usable()

    def send(self, queue: str, body: bytes) -> asyncio.Future[None]:
        """Publishes; the future ends with the confirm, or with BrokerUnavailable or QueueFull. Raises BrokerUnavailable."""
        return self._usable().send(queue, body)

    def send_with(self, queue: str, body: bytes, properties: Any) -> asyncio.Future[None]:
        """As send, with pika's properties: persistent and with a message id."""
        return self._usable().send_with(queue, body, properties)

    def publish(self, exchange: str, key: str, body: bytes, properties: Any) -> asyncio.Future[None]:
        """As ConfirmChannel.publish."""
        return self._usable().publish(exchange, key, body, properties)

    async def close(self) -> None:
        """What is under way fails with BrokerUnavailable, at once. May be repeated."""
        self._forget("this process is stopping")
        await self._kept.close()

    def _usable(self) -> ConfirmChannel:
        if self._confirms is None:
            message = f"not connected to the broker: {self._kept.trouble}"
            raise BrokerUnavailable(message)
        if self._blocked:
            message = f"the broker takes no messages: {self._blocked_reason}"
            raise BrokerUnavailable(message)
        return self._confirms

    async def _session(self, connection: Connection) -> None:
        self._blocked = self._queue_missing = False
        self._wake.clear()
        await self._topology.declare(connection)
        await self._topology.settle(connection)
        confirms = await ConfirmChannel.open(
            connection, self._confirm_seconds, self._on_unroutable, lambda: self._forget("the connection was lost")
        )
        try:
            await self._probe(confirms)
            self._confirms = confirms
            self._ready.set()
            self._kept.established()
            while confirms.ended is None:
                await self._wake.wait()
                self._wake.clear()
                if self._queue_missing:
                    await self._topology.restore(connection)
                    self._queue_missing = False
        finally:
            cause = confirms.ended or AmqpError("the connection was given up")
            self._confirms = None
            self._ready.clear()
            confirms.end(cause)
        raise cause

    async def _probe(self, confirms: ConfirmChannel) -> None:
        """Waits until the broker has confirmed something, or said that it takes nothing."""
        probe = confirms.probe()
        probe.add_done_callback(lambda _: self._wake.set())
        try:
            async with asyncio.timeout(STEP_SECONDS):
                while not probe.done() and not self._blocked:
                    await self._wake.wait()
                    self._wake.clear()
        except TimeoutError:
            message = f"the first confirm did not come within {STEP_SECONDS:g} s"
            raise AmqpError(message) from None
        finally:
            probe.cancel()
        if confirms.ended is not None:
            raise confirms.ended

    def _forget(self, why: str) -> None:
        confirms, self._confirms = self._confirms, None
        self._ready.clear()
        self._wake.set()
        if confirms is not None:
            confirms.end(AmqpError(why))

    def _on_blocked(self, blocked: bool, reason: str) -> None:
        self._blocked = blocked
        self._blocked_reason = reason
        self._wake.set()
        if blocked:
            _log.warning("broker_blocks", purpose=self._purpose, reason=reason)
        else:
            _log.info("broker_unblocks", purpose=self._purpose)

    def _on_unroutable(self, queue: str) -> None:
        if not self._queue_missing:
            _log.warning("queue_missing", queue=queue)
        self._queue_missing = True
        self._wake.set()
