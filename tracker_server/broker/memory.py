"""Publisher and Subscriber in one process: a message is handed over, and its publisher waits until it is acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tracker_server import limits
from tracker_server.errors import BrokerUnavailable, QueueFull, ShuttingDown
from tracker_server.ports import DeadLetter, Delivery, Refusal


class MemoryBroker:
    """Both ports of the broker. Nothing is durable here: the acknowledgement says that the consumer has stored it."""

    def __init__(
        self, max_messages: int = limits.MAX_OUTSTANDING_WRITES, max_bytes: int = limits.MAX_OUTSTANDING_BYTES
    ) -> None:
        """Holds so many messages and bytes at most, waiting and delivered together; but always one message."""
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages = 0
        self._bytes = 0
        self._session_number = 0
        self._running = False
        self._closed = False
        self._partitions: dict[int, _Partition] = {}
        self._tag = 0
        self._arrived: deque[_Message] = deque()
        self._unacknowledged: dict[int, _Message] = {}
        self._acknowledged = 0
        self._withheld: set[int] = set()
        self._receiver: asyncio.Future[None] | None = None

    @property
    def accepting(self) -> bool:
        """Whether a publish has a chance just now."""
        return self._running

    @property
    def connected(self) -> bool:
        """Whether deliveries can arrive just now."""
        return self._running

    @property
    def session(self) -> int:
        """1 from the start on; 0 before."""
        return self._session_number

    async def start(self) -> None:
        """Both roles may call it."""
        if not self._closed:
            self._session_number = 1
            self._running = True

    async def publish(self, partition: int, body: bytes) -> Sequence[Refusal]:
        """Returns once the consumer has acknowledged the message, with those of its writes that were refused.

        The body is handed over as it is. Raises QueueFull, ShuttingDown (closed, also meanwhile: outcome unknown) or
        BrokerUnavailable (not started).
        """
        if self._closed:
            raise ShuttingDown
        if not self._running:
            message = "the in-process broker has not been started"
            raise BrokerUnavailable(message)
        if self._messages and (self._messages >= self._max_messages or self._bytes + len(body) > self._max_bytes):
            raise QueueFull
        message_ = _Message(partition, body, asyncio.get_running_loop().create_future())
        self._messages += 1
        self._bytes += len(body)
        lane = self._lane(partition)
        if lane.under_way < lane.prefetch:
            self._deliver(lane, message_)
        else:
            lane.waiting.append(message_)
        return await message_.done

    async def hold(self, prefetch: Mapping[int, int]) -> None:
        """Delivers exactly the partitions given, each with so many unacknowledged messages at most (1 or more)."""
        wrong = {partition: count for partition, count in prefetch.items() if count < 1}
        if wrong:
            message = f"prefetch below 1: {wrong}"
            raise ValueError(message)
        for partition, lane in self._partitions.items():
            lane.prefetch = prefetch.get(partition, 0)
        for partition, count in prefetch.items():
            lane = self._lane(partition)
            lane.prefetch = count
            self._refill(lane)

    async def receive(self, timeout: float) -> Delivery | None:
        """The next delivery, or None after timeout seconds (0: without waiting). One caller at a time."""
        if not self._arrived and timeout > 0 and not self._closed:
            await self._wait(timeout)
        if not self._arrived:
            return None
        message = self._arrived.popleft()
        self._unacknowledged[message.tag] = message
        return Delivery(message.partition, message.body, self._session_number, message.tag, 0)

    async def ack(self, delivery: Delivery) -> None:
        """This delivery and all before it but those withheld are stored: their publishers return."""
        if delivery.session != self._session_number:
            return
        for tag in range(self._acknowledged + 1, delivery.tag + 1):
            if tag not in self._withheld:
                self._settle(self._unacknowledged.pop(tag))
        self._acknowledged = max(self._acknowledged, delivery.tag)

    def withhold(self, delivery: Delivery) -> None:
        """Leaves this delivery, which is not acknowledged yet, out of every `ack`, until it is released."""
        if delivery.session == self._session_number:
            self._withheld.add(delivery.tag)

    async def release(self, delivery: Delivery) -> None:
        """Acknowledges a delivery that was withheld. Of an old session: does nothing."""
        if delivery.session == self._session_number and delivery.tag in self._withheld:
            self._withheld.remove(delivery.tag)
            # One that no `ack` has reached yet is acknowledged with the next.
            if delivery.tag <= self._acknowledged:
                self._settle(self._unacknowledged.pop(delivery.tag))

    async def bury(self, delivery: Delivery, letters: Sequence[tuple[int, DeadLetter]]) -> None:
        """The publisher is told of the refusals; nothing else is kept.

        Raises BrokerUnavailable when the delivery is not under way any more.
        """
        message = self._unacknowledged.get(delivery.tag)
        if message is None or delivery.session != self._session_number:
            text = "this delivery is not under way"
            raise BrokerUnavailable(text)
        for index, letter in letters:
            message.refusals[index] = Refusal(index, letter.reason)

    async def close(self) -> None:
        """Every publisher that still waits fails with ShuttingDown. May be repeated; there is no new start."""
        self._closed = True
        self._running = False
        under_way = [*self._unacknowledged.values(), *self._arrived]
        for lane in self._partitions.values():
            under_way += lane.waiting
        self._unacknowledged.clear()
        self._arrived.clear()
        self._partitions.clear()
        self._withheld.clear()
        self._session_number += 1
        for message in under_way:
            if not message.done.done():
                message.done.set_exception(ShuttingDown())
                # Marks it as seen: a publisher that is cancelled in this very moment is no reason to complain.
                message.done.exception()
        self._wake_receiver()

    def _settle(self, message: _Message) -> None:
        self._messages -= 1
        self._bytes -= len(message.body)
        lane = self._lane(message.partition)
        lane.under_way -= 1
        self._refill(lane)
        # Done already: its publisher was cancelled.
        if not message.done.done():
            message.done.set_result(tuple(message.refusals[index] for index in sorted(message.refusals)))

    def _lane(self, partition: int) -> _Partition:
        lane = self._partitions.get(partition)
        if lane is None:
            lane = self._partitions[partition] = _Partition()
        return lane

    def _refill(self, lane: _Partition) -> None:
        while lane.waiting and lane.under_way < lane.prefetch:
            self._deliver(lane, lane.waiting.popleft())

    def _deliver(self, lane: _Partition, message: _Message) -> None:
        self._tag += 1
        message.tag = self._tag
        lane.under_way += 1
        self._arrived.append(message)
        self._wake_receiver()

    async def _wait(self, seconds: float) -> None:
        if self._receiver is not None:
            message = "two callers wait in receive at the same time"
            raise RuntimeError(message)
        loop = asyncio.get_running_loop()
        self._receiver = loop.create_future()
        timer = loop.call_later(seconds, self._wake_receiver)
        try:
            await self._receiver
        finally:
            timer.cancel()
            self._receiver = None

    def _wake_receiver(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)


@dataclass(slots=True, eq=False)
class _Message:
    partition: int
    body: bytes
    done: asyncio.Future[Sequence[Refusal]]
    tag: int = 0
    refusals: dict[int, Refusal] = field(default_factory=dict)


@dataclass(slots=True)
class _Partition:
    prefetch: int = 0
    """0: not held."""
    under_way: int = 0
    """Delivered and not acknowledged."""
    waiting: deque[_Message] = field(default_factory=deque)
