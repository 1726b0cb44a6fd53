"""When a consumer tells other services of ends: after the commit, before the acknowledgement, again after a death."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from tests.contract.store_databases import settings_for
from tests.integration.scripted import ScriptedSubscriber, until
from tests.unit.test_batch import good_write
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import RUN_STATUS_COMPLETED
from tracker_server.cache.memory import MemoryCache
from tracker_server.consumer.announcer import Announcer
from tracker_server.consumer.batch import BatchLimits
from tracker_server.consumer.consumer import Consumer
from tracker_server.errors import BrokerUnavailable
from tracker_server.invalidation import Invalidator
from tracker_server.notices import MemoryChanges
from tracker_server.ports import Event
from tracker_server.store.assignment import WholeAssignment
from tracker_server.store.store import Store, open_store

WRITER = "writer-0123456789"


class Told:
    """ports.Events that remembers, or refuses."""

    def __init__(self, subscriber: ScriptedSubscriber) -> None:
        self.events: list[dict[str, Any]] = []
        self.refuses = False
        self.refused = 0
        self._subscriber = subscriber

    async def start(self) -> None:
        """Nothing to connect."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Remembers how far was acknowledged at this moment."""
        if self.refuses:
            self.refused += 1
            raise BrokerUnavailable
        self.events += [{**json.loads(event.body), "acked": self._subscriber.acked} for event in events]

    async def close(self) -> None:
        """Nothing to close."""


class Consuming:
    """A consumer at work."""

    def __init__(self, store: Store) -> None:
        self.subscriber = ScriptedSubscriber()
        self.told = Told(self.subscriber)
        self._consumer = Consumer(
            self.subscriber,
            store,
            WholeAssignment(store.partitions),
            Invalidator(MemoryCache()),
            Announcer(store, MemoryChanges(), self.told, pay_seconds=0.02),
            BatchLimits(points=1_000, size=1_000_000, seconds=0.02),
            interval_seconds=0.05,
            dead_limit=True,
            compaction=False,
        )
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._consumer.run(5.0))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._consumer.stop()
        await self._task

    async def store(self, *writes: internal.Write) -> int:
        """Delivers a message and waits until it is acknowledged; returns its tag."""
        delivery = self.subscriber.put(*writes)
        await until(lambda: self.subscriber.acked >= delivery.tag)
        return delivery.tag


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(settings_for(f"sqlite:///{tmp_path}/tracker.db", partitions=4), "test")
    yield opened
    opened.close()


def end(sequence: int = 2, attempt: int = 1) -> internal.Write:
    """A run ends."""
    request = public.RunCompletedRequest(status=RUN_STATUS_COMPLETED)
    return _write(internal.WRITE_KIND_RUN_COMPLETED, sequence, attempt, request.SerializeToString())


def start(sequence: int = 1, attempt: int = 1) -> internal.Write:
    """A run starts, in an experiment."""
    request = public.StartRunRequest(experiment_id="vision")
    return _write(internal.WRITE_KIND_START_RUN, sequence, attempt, request.SerializeToString())


def _write(kind: internal.WriteKind.ValueType, sequence: int, attempt: int, payload: bytes) -> internal.Write:
    return internal.Write(
        kind=kind,
        scope_id="run",
        writer_id=WRITER,
        sequence=sequence,
        attempt=attempt,
        accepted_at_unix_ms=1_700_000_000_000,
        payload=payload,
    )


async def test_an_end_is_told_before_it_is_acknowledged_and_again_when_it_comes_again(store: Store) -> None:
    async with Consuming(store) as consuming:
        await consuming.store(good_write(9))
        assert consuming.told.events == [], "points are no end"
        first = await consuming.store(start(), end())
        second = await consuming.store(end())
    one, again = consuming.told.events
    assert one["acked"] < first
    assert again["acked"] < second
    assert one["event_id"] == again["event_id"]
    assert (one["experiment_id"], one["status"]) == ("vision", "COMPLETED")


async def test_while_the_broker_takes_no_events_they_are_owed_and_nothing_waits(store: Store) -> None:
    async with Consuming(store) as consuming:
        consuming.told.refuses = True
        await consuming.store(start(), end())
        await until(lambda: consuming.told.refused >= 3)
        assert consuming.told.events == []
        consuming.told.refuses = False
        # Crossed off after they were told: ending in between, they would be told again.
        await until(lambda: store.owed_events(10) == ([], {}))
    assert [event["experiment_id"] for event in consuming.told.events] == ["vision"]


async def test_what_a_consumer_owes_another_one_pays(store: Store) -> None:
    async with Consuming(store) as consuming:
        consuming.told.refuses = True
        await consuming.store(end())
    async with Consuming(store) as consuming:
        await until(lambda: store.owed_events(10) == ([], {}))
        assert consuming.told.events


async def test_a_start_that_comes_after_the_end_has_it_told_under_its_experiment(store: Store) -> None:
    async with Consuming(store) as consuming:
        await consuming.store(end())
        await consuming.store(start())
        await consuming.store(start())
        await consuming.store(start(sequence=3, attempt=2))
    told = [(event["experiment_id"], event["event_id"]) for event in consuming.told.events]
    assert [experiment for experiment, _ in told] == ["default", "vision", "vision"]
    assert len(set(told)) == 2
