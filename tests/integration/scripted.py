"""A broker whose every move the test decides, and a consumer on a real store (SQLite) that fails when the test says so."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.unit.test_batch import delivery
from tracker.internal.v1 import envelope_pb2 as internal
from tracker_server.cache.memory import MemoryCache
from tracker_server.config import Settings
from tracker_server.consumer.announcer import Announcer
from tracker_server.consumer.batch import BatchLimits
from tracker_server.consumer.consumer import Consumer
from tracker_server.errors import BrokerUnavailable, QueueFull, StoreUnavailable
from tracker_server.invalidation import Invalidator
from tracker_server.model.watching import RunPosition
from tracker_server.model.writes import Write
from tracker_server.notices import MemoryChanges
from tracker_server.ports import DeadLetter, Delivery
from tracker_server.store.assignment import WholeAssignment
from tracker_server.store.flush import Outcome
from tracker_server.store.store import Store, open_store

PARTITIONS = 4


class ScriptedSubscriber:
    """ports.Subscriber that delivers what the test puts in."""

    def __init__(self) -> None:
        self.session = 1
        self.connected = True
        self.arrived: deque[Delivery] = deque()
        self.acked = 0
        self.withheld: set[int] = set()
        self.broker_takes = True
        self.buried: list[DeadLetter] = []
        self.held: dict[int, int] = {}
        self.dead_queue_full = False
        self._tag = 0

    def put(self, *writes: internal.Write, count: int = 0, body: bytes | None = None) -> Delivery:
        """Delivers a message."""
        self._tag += 1
        made = dataclasses.replace(delivery(*writes, tag=self._tag), session=self.session, delivery_count=count)
        made = made if body is None else dataclasses.replace(made, body=body)
        self.arrived.append(made)
        return made

    def lose_session(self) -> None:
        """The channel closes: what was not acknowledged is gone from here."""
        self.session += 1
        self.arrived.clear()
        self.withheld.clear()

    async def start(self) -> None:
        """Nothing to connect."""

    async def hold(self, prefetch: Mapping[int, int]) -> None:
        """Remembered for the test."""
        self.held = dict(prefetch)

    async def receive(self, timeout: float) -> Delivery | None:
        """The next delivery."""
        if not self.arrived and timeout > 0:
            await asyncio.sleep(0.005)
        return self.arrived.popleft() if self.arrived else None

    async def ack(self, delivery: Delivery) -> None:
        """Remembered for the test."""
        if delivery.session == self.session:
            self.acked = max(self.acked, delivery.tag)

    def withhold(self, delivery: Delivery) -> None:
        """Remembered for the test."""
        assert delivery.tag > self.acked
        self.withheld.add(delivery.tag)

    async def release(self, delivery: Delivery) -> None:
        """Remembered for the test."""
        if delivery.session == self.session:
            self.withheld.remove(delivery.tag)

    async def bury(self, delivery: Delivery, letters: Sequence[tuple[int, DeadLetter]]) -> None:
        """Remembered for the test."""
        assert delivery.tag > self.acked or delivery.tag in self.withheld, "buried before the acknowledgement"
        if self.dead_queue_full:
            raise QueueFull
        if not self.broker_takes or delivery.session != self.session:
            raise BrokerUnavailable("no connection for dead letters")
        self.buried.extend(letter for _, letter in letters)

    async def close(self) -> None:
        """Nothing to close."""


class FaultyStore(Store):
    """A real store that fails when the test says so."""

    fault: Callable[[Sequence[Write]], None] = staticmethod(lambda _batch: None)
    revisions_fail = 0
    """How often the next revisions of an experiment's runs fail, after the first page."""

    def flush(self, batch: Sequence[Write]) -> Outcome:
        """Fails or flushes."""
        self.fault(batch)
        return super().flush(batch)

    def revise_experiment(
        self, experiment_id: str, after: RunPosition | None = None, limit: int = 2
    ) -> tuple[Mapping[int, int], RunPosition | None]:
        """Fails or revises a page of two."""
        if after is not None and self.revisions_fail:
            self.revisions_fail -= 1
            raise StoreUnavailable
        return super().revise_experiment(experiment_id, after, limit)


@contextmanager
def faulty_store(directory: Path) -> Iterator[FaultyStore]:
    """An empty store."""
    opened = open_store(Settings(database_url=f"sqlite:///{directory}/tracker.db", partitions=PARTITIONS), "test")
    opened.__class__ = FaultyStore
    assert isinstance(opened, FaultyStore)
    yield opened
    opened.close()


def consumer_of(subscriber: ScriptedSubscriber, store: Store, seconds: float = 0.05) -> Consumer:
    """A consumer, not yet at work. seconds: 0 where callers wait for its flushes."""
    return Consumer(
        subscriber,
        store,
        WholeAssignment(PARTITIONS),
        Invalidator(MemoryCache()),
        Announcer(store, MemoryChanges(), None),
        BatchLimits(points=1_000, size=1_000_000, seconds=seconds),
        interval_seconds=0.05,
        dead_limit=True,
        compaction=True,
    )


@asynccontextmanager
async def running(subscriber: ScriptedSubscriber, store: Store, seconds: float = 0.05) -> AsyncIterator[Consumer]:
    """A consumer at work."""
    consumer = consumer_of(subscriber, store, seconds)
    task = asyncio.create_task(consumer.run(5.0))
    try:
        yield consumer
    finally:
        consumer.stop()
        await task


async def until(condition: Callable[[], bool]) -> None:
    """Awaits a condition, ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # conditions of objects that know no events
            await asyncio.sleep(0.002)
