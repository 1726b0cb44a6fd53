"""The Subscriber port on RabbitMQ."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from tracker_server import limits
from tracker_server.broker.amqp import STEP_SECONDS, AmqpError, Channel, ChannelClosed, Connection
from tracker_server.broker.brake import Brake
from tracker_server.broker.connection import KeptConnection
from tracker_server.broker.letters import letter_properties
from tracker_server.broker.sender import Sender
from tracker_server.broker.topology import DEAD_QUEUE, Topology, ingest_queue
from tracker_server.config import Settings
from tracker_server.errors import BrokerUnavailable
from tracker_server.ports import DeadLetter, Delivery

_log = structlog.get_logger(__name__)


class RabbitSubscriber:
    """Consumes the queues of the partitions it holds, all on one channel; a new channel is a new session.

    Dead letters go out on a connection of their own, made when the first is due: a connection that has published is
    not read by a broker under an alarm, and then not even its acknowledgements would arrive.
    """

    def __init__(self, settings: Settings, confirm_seconds: float = limits.CONFIRM_TIMEOUT_SECONDS) -> None:
        """confirm_seconds: for dead letters. Raises BadSetting for a wrong broker URL."""
        self._topology = Topology(settings)
        self._kept = KeptConnection(settings, "subscriber", self._session)
        self._undertaker = Sender(settings, "dead letters", confirm_seconds)
        self._channel: Channel | None = None
        self._connection: Connection | None = None
        self._lost: ChannelClosed | None = None
        self._session_number = 0
        self._acknowledged = 0
        self._withheld: set[int] = set()
        self._consumers_made = 0
        self._closed = False
        self._wanted: dict[int, int] = {}
        self._consuming: dict[int, tuple[str, int]] = {}
        self._holders: list[asyncio.Future[None]] = []
        self._queue_missing = False
        self._wake = asyncio.Event()
        self._arrived: deque[Delivery] = deque()
        self._receiver: asyncio.Future[None] | None = None
        self._brake = Brake(limits.PREFETCH_BYTES)

    @property
    def session(self) -> int:
        """Number of the present channel; grows with every reconnect. 0 before the first."""
        return self._session_number

    @property
    def connected(self) -> bool:
        """Whether deliveries can arrive just now."""
        return self._channel is not None

    async def start(self) -> None:
        """Begins to connect, and goes on by itself for ever."""
        self._kept.start()

    async def hold(self, prefetch: Mapping[int, int]) -> None:
        """Consumes exactly the partitions given, each with so many unacknowledged messages at most (1 or more).

        Remembered over reconnects. Returns once partitions given up are cancelled: what they had delivered is in
        receive()'s queue by then. Does not wait for a broker that is away.
        """
        wrong = {partition: count for partition, count in prefetch.items() if count < 1}
        if wrong:
            message = f"prefetch below 1, which AMQP takes for unlimited: {wrong}"
            raise ValueError(message)
        self._wanted = dict(prefetch)
        if self._channel is not None:
            holder: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._holders.append(holder)
            self._wake.set()
            await holder

    async def receive(self, timeout: float) -> Delivery | None:
        """The next delivery, or None after timeout seconds (0: without waiting). One caller at a time.

        Never one of an old session. None at once when closed.
        """
        if self._arrived:
            return self._arrived.popleft()
        if timeout <= 0 or self._closed:
            return None
        if self._receiver is not None:
            message = "two callers wait in receive at the same time"
            raise RuntimeError(message)
        loop = asyncio.get_running_loop()
        self._receiver = loop.create_future()
        timer = loop.call_later(timeout, self._wake_receiver)
        try:
            await self._receiver
        finally:
            timer.cancel()
            self._receiver = None
        return self._arrived.popleft() if self._arrived else None

    async def ack(self, delivery: Delivery) -> None:
        """Acknowledges this delivery and all before it in its session but those withheld. Of an old session: does nothing."""
        if self._is_present(delivery) and delivery.tag > self._acknowledged and self._channel is not None:
            if any(tag <= delivery.tag for tag in self._withheld):
                for tag in range(self._acknowledged + 1, delivery.tag + 1):
                    if tag not in self._withheld:
                        self._channel.ack(tag, multiple=False)
            else:
                self._channel.ack(delivery.tag)
            self._acknowledged = delivery.tag
            self._brake.acknowledged(delivery.tag)

    def withhold(self, delivery: Delivery) -> None:
        """Leaves this delivery, which is not acknowledged yet, out of every `ack`, until it is released."""
        if self._is_present(delivery):
            self._withheld.add(delivery.tag)

    async def release(self, delivery: Delivery) -> None:
        """Acknowledges a delivery that was withheld. Of an old session: does nothing."""
        if self._is_present(delivery) and delivery.tag in self._withheld and self._channel is not None:
            self._withheld.remove(delivery.tag)
            # One that no `ack` has reached yet is acknowledged with the next.
            if delivery.tag <= self._acknowledged:
                self._channel.ack(delivery.tag, multiple=False)

    async def bury(self, delivery: Delivery, letters: Sequence[tuple[int, DeadLetter]]) -> None:
        """Puts dead letters of a delivery away, confirmed, before it is acknowledged.

        Raises BrokerUnavailable (also for a delivery of an old session: it comes again) or QueueFull (the dead-letter
        queue is full). Some of the letters may then have been put away, and will be there twice after another try.
        """
        if not self._is_present(delivery):
            message = "the session of this delivery is over: it will be delivered again"
            raise BrokerUnavailable(message)
        self._undertaker.start()
        await self._undertaker.wait_until_ready(STEP_SECONDS)
        under_way: list[asyncio.Future[None]] = []
        try:
            for _, letter in letters:
                under_way.append(self._undertaker.send_with(DEAD_QUEUE, letter.body, letter_properties(letter)))
            await asyncio.gather(*under_way)
        finally:
            for future in under_way:
                future.cancel()

    async def close(self) -> None:
        """Gives up the channel; what was not acknowledged will be delivered again. May be repeated."""
        self._closed = True
        self._lose()
        self._wake_receiver()
        await asyncio.gather(self._kept.close(), self._undertaker.close())

    def _is_present(self, delivery: Delivery) -> bool:
        return delivery.session == self._session_number and self._channel is not None

    async def _session(self, connection: Connection) -> None:
        self._queue_missing = False
        await self._topology.declare(connection)
        self._lost = None
        channel = await connection.channel(self._on_closed)
        channel.raw.add_on_cancel_callback(self._on_cancelled)
        self._session_number += 1
        self._acknowledged = 0
        self._withheld.clear()
        self._consuming = {}
        self._channel = channel
        self._connection = connection
        self._brake.begin(connection)
        try:
            await self._apply(channel)
            self._kept.established()
            while self._lost is None:
                await self._wake.wait()
                self._wake.clear()
                if self._queue_missing:
                    await self._topology.restore(connection)
                    self._queue_missing = False
                await self._apply(channel)
        finally:
            self._lose()
        raise self._lost or AmqpError("the connection was given up")

    async def _apply(self, channel: Channel) -> None:
        """Makes what is consumed equal to what is wanted."""
        holders, self._holders = self._holders, []
        wanted = self._wanted
        try:
            for partition, (tag, prefetch) in list(self._consuming.items()):
                if wanted.get(partition) != prefetch:
                    await channel.cancel(tag)
                    self._consuming.pop(partition, None)
            for partition, prefetch in wanted.items():
                if partition not in self._consuming:
                    self._consumers_made += 1
                    tag = f"{partition}.{self._consumers_made}"
                    # Known before the broker answers: it may cancel in the same breath.
                    self._consuming[partition] = tag, prefetch
                    await channel.consume(ingest_queue(partition), tag, prefetch, self._receiver_of(partition))
        finally:
            for holder in holders:
                if not holder.done():
                    holder.set_result(None)

    def _receiver_of(self, partition: int) -> Callable[[Any, Any, Any, bytes], None]:
        session = self._session_number
        arrived = self._arrived

        def on_message(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            headers = properties.headers
            count = headers.get("x-delivery-count", 0) if headers else 0
            # pika reads it as an int of a class of its own.
            count = int(count) if isinstance(count, int) else 0
            self._brake.delivered(int(method.delivery_tag), len(body))
            arrived.append(Delivery(partition, body, session, method.delivery_tag, max(count, int(method.redelivered))))
            if self._receiver is not None:
                self._wake_receiver()

        return on_message

    def _wake_receiver(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    def _on_cancelled(self, frame: Any) -> None:
        tag = frame.method.consumer_tag
        for partition, (present, _) in list(self._consuming.items()):
            if present == tag:
                _log.warning("consumer_cancelled_by_broker", queue=ingest_queue(partition))
                del self._consuming[partition]
                self._queue_missing = True
                self._wake.set()

    def _on_closed(self, cause: ChannelClosed) -> None:
        self._lost = cause
        self._lose()

    def _lose(self) -> None:
        """The session is over: its deliveries will come again."""
        self._channel = None
        self._brake.end()
        self._arrived.clear()
        self._wake.set()
        holders, self._holders = self._holders, []
        for holder in holders:
            if not holder.done():
                holder.set_result(None)
