"""Puts dead letters away, at once or as soon as the broker takes them, without holding up what comes after them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from tracker_server.consumer.batch import Letter, SessionLost
from tracker_server.errors import BrokerUnavailable, QueueFull
from tracker_server.ports import Delivery, Subscriber
from tracker_server.store.ledger import DeadWrite

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0
_log = structlog.get_logger(__name__)


class Burial:
    """Of one consumer.

    A broker that takes no dead letter, under an alarm for example, may do so because its queues are long: they are
    emptied all the same. The message that the letter came in is left unacknowledged meanwhile, so that whatever happens
    to this process, it is delivered again.
    """

    def __init__(
        self, subscriber: Subscriber, mark_dead: Callable[[int, Sequence[DeadWrite]], Awaitable[None]]
    ) -> None:
        """mark_dead: notes in the database that these writes of a session lie in the dead-letter queue. Waits while it is
        out of reach; raises SessionLost when the session ends meanwhile."""
        self._subscriber = subscriber
        self._mark_dead = mark_dead
        self._waiting: deque[tuple[Delivery, Sequence[Letter]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self.full: QueueFull | None = None
        """Why the last letter was not taken, while the dead-letter queue is full."""

    @property
    def waiting(self) -> int:
        """Messages with letters that are still to be put away."""
        return len(self._waiting)

    async def bury(self, delivery: Delivery, letters: Sequence[Letter]) -> None:
        """Puts the letters of a delivery away; when the broker does not take them, later, and an acknowledgement of what
        comes after the delivery leaves it out.

        Raises QueueFull, and SessionLost when the session of the delivery is over.
        """
        if not self._waiting:
            try:
                await self._put(delivery, letters)
            except BrokerUnavailable as error:
                if delivery.session != self._subscriber.session:
                    raise SessionLost from error
                _log.warning("dead letters wait for the broker", error=str(error), letters=len(letters))
            else:
                return
        self._subscriber.withhold(delivery)
        self._waiting.append((delivery, letters))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_trying(), name="bury")

    async def close(self) -> None:
        """Gives up: what still waits was not acknowledged, and is delivered to somebody else."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _put(self, delivery: Delivery, letters: Sequence[Letter]) -> None:
        await self._subscriber.bury(delivery, [(letter.index, letter.letter) for letter in letters])
        self.full = None
        await self._mark_dead(delivery.session, [letter.identity for letter in letters if letter.identity])

    async def _keep_trying(self) -> None:
        wait = FIRST_WAIT_SECONDS
        while self._waiting:
            delivery, letters = self._waiting[0]
            if delivery.session != self._subscriber.session:
                # It comes again, by another channel.
                self._waiting.popleft()
                continue
            try:
                await self._put(delivery, letters)
            except SessionLost:
                continue
            except (BrokerUnavailable, QueueFull) as error:
                self.full = error if isinstance(error, QueueFull) else None
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)
                continue
            self._waiting.popleft()
            await self._subscriber.release(delivery)
            wait = FIRST_WAIT_SECONDS
        _log.info("no dead letters wait any more")
