"""A publisher that does as it is told, and remembers what it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tracker.internal.v1 import envelope_pb2 as internal
from tracker_server.errors import BrokerUnavailable
from tracker_server.ports import Refusal


class FakePublisher:
    """Confirms at once; while `held`, when told to."""

    def __init__(self) -> None:
        self.accepting = True
        self.held = False
        self.error: Exception | None = None
        self.refusals: Sequence[Refusal] = ()
        self.messages: list[tuple[int, internal.Envelope]] = []
        self.sizes: list[int] = []
        self.most_in_flight = 0
        self._waiting: list[asyncio.Future[Sequence[Refusal]]] = []
        self._published = asyncio.Condition()

    async def start(self) -> None:
        """Nothing to connect to."""

    async def publish(self, partition: int, body: bytes) -> Sequence[Refusal]:
        """Takes a message."""
        self.messages.append((partition, internal.Envelope.FromString(body)))
        self.sizes.append(len(body))
        async with self._published:
            self._published.notify_all()
        if self.held:
            confirm: asyncio.Future[Sequence[Refusal]] = asyncio.get_running_loop().create_future()
            self._waiting.append(confirm)
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            return await confirm
        if self.error:
            raise self.error
        return self.refusals

    async def close(self) -> None:
        """Fails what is unconfirmed."""
        self.accepting = False
        self.fail(BrokerUnavailable())

    @property
    def in_flight(self) -> int:
        """Messages that wait for their confirm."""
        return sum(not confirm.done() for confirm in self._waiting)

    @property
    def writes(self) -> list[internal.Write]:
        """All writes of all messages."""
        return [write for _, envelope in self.messages for write in envelope.writes]

    def confirm(self, count: int | None = None, refusals: Sequence[Refusal] = ()) -> None:
        """Confirms the oldest messages that wait, all of them by default."""
        for confirm in self._take(count):
            confirm.set_result(refusals)

    def fail(self, error: Exception, count: int | None = None) -> None:
        """Fails the oldest messages that wait, all of them by default."""
        for confirm in self._take(count):
            confirm.set_exception(error)

    def release(self) -> None:
        """Confirms what waits, and from now on at once."""
        self.held = False
        self.confirm()

    async def until_published(self, count: int) -> None:
        """Returns once so many messages have been given."""
        async with asyncio.timeout(10), self._published:
            await self._published.wait_for(lambda: len(self.messages) >= count)

    def _take(self, count: int | None) -> list[asyncio.Future[Sequence[Refusal]]]:
        waiting = [confirm for confirm in self._waiting if not confirm.done()][:count]
        self._waiting = [confirm for confirm in self._waiting if confirm not in waiting and not confirm.done()]
        return waiting
