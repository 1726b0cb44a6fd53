"""What consumers tell, on RabbitMQ: servers, that runs have changed; other services, what has happened."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

import pika
import structlog

from tracker.internal.v1.envelope_pb2 import ChangeNotice
from tracker_server import limits
from tracker_server.broker.sender import Sender
from tracker_server.broker.topology import CHANGES, EVENTS
from tracker_server.config import Settings
from tracker_server.errors import BrokerUnavailable, QueueFull
from tracker_server.ports import Event, Revisions

WAIT_SECONDS: Final = 1.0
"""How long an event waits for a connection: beyond it, others have waited long enough."""
_PERSISTENT: Final = 2
_log = structlog.get_logger(__name__)


class RabbitAnnouncements:
    """ports.ChangeNotices and ports.Events, on a connection of their own: one that publishes is not read by a broker
    under an alarm, so deliveries must not come on it."""

    def __init__(self, settings: Settings, confirm_seconds: float = limits.CONFIRM_TIMEOUT_SECONDS) -> None:
        """confirm_seconds: an event whose confirm takes longer may be lost. Raises BadSetting for a wrong broker URL."""
        self._sender = Sender(settings, "announcements", confirm_seconds)

    @property
    def connected(self) -> bool:
        """Whether something would be sent just now."""
        return self._sender.accepting

    async def start(self) -> None:
        """See ports.Events."""
        self._sender.start()

    def send(self, revisions: Revisions) -> None:
        """See ports.ChangeNotices. While the broker is away, nothing is sent."""
        body = ChangeNotice(revisions=revisions).SerializeToString()
        with contextlib.suppress(BrokerUnavailable):
            self._sender.publish(CHANGES, "", body, pika.BasicProperties())

    async def publish(self, events: Sequence[Event]) -> None:
        """See ports.Events. Waits for a connection for a moment.

        A queue that refuses what it has no room for (x-overflow: reject-publish) loses it: others would get it again and
        again.
        """
        await self._sender.wait_until_ready(WAIT_SECONDS)
        under_way: list[asyncio.Future[None]] = []
        try:
            for event in events:
                properties = pika.BasicProperties(
                    content_type="application/json",
                    delivery_mode=_PERSISTENT,
                    message_id=event.id,
                    timestamp=int(time.time()),
                )
                under_way.append(self._sender.publish(EVENTS, event.routing_key, event.body, properties))
            outcomes = await asyncio.gather(*under_way, return_exceptions=True)
        finally:
            for future in under_way:
                future.cancel()
        refused = [outcome for outcome in outcomes if isinstance(outcome, QueueFull)]
        if refused:
            _log.warning("events_refused", events=len(refused), cause="a queue that is bound to them is full")
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and outcome not in refused:
                raise outcome

    async def close(self) -> None:
        """See ports.Events."""
        await self._sender.close()
