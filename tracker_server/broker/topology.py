"""The queues: their names, their arguments, and how both sides make sure of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final

import structlog

from tracker_server import limits
from tracker_server.broker.amqp import Channel, ChannelClosed, Connection
from tracker_server.config import Settings

DEAD_QUEUE: Final = "tracker.dead"
"""Where messages and writes lie that can never be stored."""
DEAD_MAX_BYTES: Final = 1024 * limits.MIB
"""Length limit of the dead-letter queue, in bytes; beyond it consumers stop."""
DEAD_MAX_MESSAGES: Final = 1_000_000
"""Length limit of the dead-letter queue, in messages."""
NO_DELIVERY_LIMIT: Final = 1_000_000_000
"""Looking at a dead letter counts as a delivery; RabbitMQ 4 would drop it after 20. 3.10 knows no "unlimited"."""

REDECLARE_SECONDS: Final = 1.0
"""Pause before a queue that was deleted is made again.

RabbitMQ 3.10 tells a deleted queue's consumers by and by. Made again within some 50 ms, they are left attached to nothing
and are told nothing.
"""

SETTLE_SECONDS: Final = 5.0
"""How long the queues must have been there before anything is published to them.

RabbitMQ 3.10 writes to disk that a quorum queue exists some time after it has answered the declaration. Killed before, it
comes back with a queue that has no leader and no messages, confirmed ones included (rabbitmq-server issues 10070, 15725).
Seen up to 0.5 s after the declaration and never from 1 s on; the tables concerned are written after 3 s at the latest.
"""
EVENTS: Final = "tracker.events"
"""The topic exchange, durable, to which other services bind queues of their own; see docs/events.md."""
CHANGES: Final = "tracker.changes"
"""The fanout exchange, gone with the broker, by which consumers tell servers that runs have changed."""
SETTLED: Final = "tracker.settled"
"""An exchange without a purpose of its own: it is there once the queues have had that time."""

_INGEST_PREFIX: Final = "tracker.ingest."
_NOT_FOUND: Final = 404
_PRECONDITION_FAILED: Final = 406
_DIFFERENCE: Final = re.compile(
    r"inequivalent arg '([^']+)' for (?:queue|exchange) .*: received (.*?) but current is (.*)$"
)

_log = structlog.get_logger(__name__)


def ingest_queue(partition: int) -> str:
    """The queue of a partition."""
    return f"{_INGEST_PREFIX}{partition}"


def partition_of_queue(queue: str) -> int | None:
    """The partition of an ingest queue; None for any other queue."""
    number = queue.removeprefix(_INGEST_PREFIX)
    return int(number) if queue.startswith(_INGEST_PREFIX) and number.isdecimal() else None


def queues(settings: Settings) -> dict[str, Mapping[str, str | int | bool]]:
    """Every queue with its arguments. All are explicit: the broker's defaults differ between its versions."""
    ingest: Mapping[str, str | int | bool] = {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-max-length": settings.queue_max_messages,
        "x-max-length-bytes": settings.queue_max_bytes,
        "x-delivery-limit": limits.BROKER_DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": DEAD_QUEUE,
        "x-dead-letter-strategy": "at-least-once",
        # A net only: partitions are shared out by locks, but a consumer that lost its lock unawares gets nothing.
        "x-single-active-consumer": True,
    }
    dead: Mapping[str, str | int | bool] = {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-max-length": DEAD_MAX_MESSAGES,
        "x-max-length-bytes": DEAD_MAX_BYTES,
        "x-delivery-limit": NO_DELIVERY_LIMIT,
    }
    # The dead-letter queue first: the others point to it.
    return {DEAD_QUEUE: dead} | {ingest_queue(partition): ingest for partition in range(settings.partitions)}


class Topology:
    """Makes sure that the queues exist."""

    def __init__(self, settings: Settings) -> None:
        self._queues = queues(settings)
        self._reported: set[tuple[str, str]] = set()

    async def declare(self, connection: Connection) -> None:
        """Declares every queue and exchange, on a channel of its own. Raises AmqpError.

        One that exists with other arguments is used as it is, and the difference is logged once: the broker can
        change no argument of either, and not to start at all would be worse.
        """
        channel = await connection.channel()
        for queue, arguments in self._queues.items():
            try:
                await channel.declare(queue, arguments)
            except ChannelClosed as error:
                if error.code != _PRECONDITION_FAILED:
                    raise
                self._report(queue, error.text)
                channel = await self._use_as_it_is(connection, queue)
        await channel.close()
        await self.declare_exchanges(connection)

    async def declare_exchanges(self, connection: Connection) -> None:
        """As declare, of exchanges only."""
        channel = await connection.channel()
        for name, kind, durable in ((EVENTS, "topic", True), (CHANGES, "fanout", False)):
            try:
                await channel.declare_exchange(name, kind, durable=durable)
            except ChannelClosed as error:
                if error.code != _PRECONDITION_FAILED:
                    raise
                self._report(name, error.text)
                channel = await connection.channel()
        await channel.close()

    async def settle(self, connection: Connection) -> None:
        """Returns when the queues, declared before, are safe to publish to: at once, but for the first time. Raises AmqpError."""
        channel = await connection.channel()
        try:
            await channel.declare_exchange(SETTLED, "direct", durable=True, passive=True)
        except ChannelClosed as error:
            if error.code != _NOT_FOUND:
                raise
            _log.info("queues_are_new", seconds_until_used=SETTLE_SECONDS)
            await asyncio.sleep(SETTLE_SECONDS)
            channel = await connection.channel()
            await channel.declare_exchange(SETTLED, "direct", durable=True)
        await channel.close()

    async def restore(self, connection: Connection) -> None:
        """Declares every queue after one was found missing. Raises AmqpError."""
        await asyncio.sleep(REDECLARE_SECONDS)
        await self.declare(connection)

    async def _use_as_it_is(self, connection: Connection, queue: str) -> Channel:
        channel = await connection.channel()
        await channel.count(queue)
        return channel

    def _report(self, queue: str, text: str) -> None:
        found = _DIFFERENCE.search(text)
        argument, wanted, present = found.groups() if found else ("unknown", "unknown", text)
        if (queue, text) in self._reported:
            return
        self._reported.add((queue, text))
        _log.warning(
            "queue_differs",
            queue=queue,
            argument=argument,
            wanted=wanted,
            present=present,
            todo="it is used as it is; to change it: stop the servers, let the consumers empty it, delete it, "
            "start the servers",
        )
