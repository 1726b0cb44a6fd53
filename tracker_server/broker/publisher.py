"""The Publisher port on RabbitMQ."""

from __future__ import annotations

from collections.abc import Sequence

from tracker_server import limits
from tracker_server.broker.sender import Sender
from tracker_server.broker.topology import ingest_queue
from tracker_server.config import Settings
from tracker_server.ports import Refusal


class RabbitPublisher:
    """Puts messages on the quorum queues of the partitions, and returns when the broker has confirmed them."""

    def __init__(self, settings: Settings, confirm_seconds: float = limits.CONFIRM_TIMEOUT_SECONDS) -> None:
        """confirm_seconds: a confirm that takes longer is taken for lost. Raises BadSetting for a wrong broker URL."""
        self._queues = [ingest_queue(partition) for partition in range(settings.partitions)]
        self._sender = Sender(settings, "publisher", confirm_seconds)

    @property
    def accepting(self) -> bool:
        """Whether a publish has a chance just now: connected, and not blocked by the broker."""
        return self._sender.accepting

    async def start(self) -> None:
        """Begins to connect, and goes on by itself for ever. Does not wait for the connection."""
        self._sender.start()

    async def publish(self, partition: int, body: bytes) -> Sequence[Refusal]:
        """Returns once the message is on its quorum queue, durably. Never any refusals: the consumer is elsewhere.

        Raises BrokerUnavailable (not connected, blocked, connection lost, queue missing, confirm too late: outcome
        unknown) or QueueFull (the broker refused it).
        """
        await self._sender.send(self._queues[partition], body)
        return ()

    async def close(self) -> None:
        """What is unconfirmed fails with BrokerUnavailable at once. May be repeated."""
        await self._sender.close()
