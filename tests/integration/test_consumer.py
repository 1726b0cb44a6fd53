"""The consumer's loop on a real store (SQLite) with a broker whose every move the test decides."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.contract.store_writes import start, write
from tests.contract.watcher import StoreWatcher
from tests.integration.scripted import (
    FaultyStore,
    ScriptedSubscriber,
    consumer_of,
    faulty_store,
    running,
    until,
)
from tests.unit.test_batch import good_write
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server import limits
from tracker_server.consumer.flusher import ConsumerStopped
from tracker_server.errors import StoreUnavailable
from tracker_server.model.records import Position
from tracker_server.model.writes import Write
from tracker_server.ports import Delivery
from tracker_server.store.history_reader import HistoryQuery
from tracker_server.store.point_reader import StepRange
from tracker_server.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FaultyStore]:
    """An empty store."""
    with faulty_store(tmp_path) as opened:
        yield opened


def steps_of(store: Store) -> list[int]:
    """Steps of the points stored."""
    page = store.read_history(HistoryQuery(["run"], ["loss"], StepRange(), 0, 1_000), Position())
    return [int(step) for step in page.parts[0].steps]


async def test_every_delivery_is_stored_before_it_is_acknowledged(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()
    async with running(subscriber, store):
        for sequence in range(1, 51):
            subscriber.put(good_write(sequence))
        await until(lambda: subscriber.acked == 50)
        assert steps_of(store) == list(range(1, 51))


async def test_a_write_that_the_database_refuses_is_isolated_and_its_neighbours_stored(store: FaultyStore) -> None:
    def refuse(batch: Sequence[Write]) -> None:
        if any(write.sequence == 7 for write in batch):
            message = "no such value"
            raise ValueError(message)

    store.fault = refuse
    subscriber = ScriptedSubscriber()
    async with running(subscriber, store):
        subscriber.put(*(good_write(sequence) for sequence in range(1, 21)))
        await until(lambda: subscriber.acked == 1)
    assert steps_of(store) == [step for step in range(1, 21) if step != 7]
    (letter,) = subscriber.buried
    assert (letter.sequence, "no such value" in letter.reason) == (7, True)
    sets = store.applied([("run", "writer-0123456789")], experiments=False)
    assert str(sets["run", "writer-0123456789"].dead) == "7"


async def test_a_deleted_experiment_is_told_to_watchers_before_it_is_acknowledged_and_again_when_it_comes_again(
    store: FaultyStore,
) -> None:
    """One page of its runs in each transaction; the database goes away in between."""
    names = [f"run-{number}" for number in range(5)]
    store.flush([write(1, start("e"), run=name) for name in names])
    watcher = StoreWatcher.from_now(store)
    deletion = internal.Write(
        kind=internal.WRITE_KIND_DELETE_EXPERIMENT,
        scope_id="e",
        writer_id="writer-0123456789",
        sequence=1,
        accepted_at_unix_ms=1,
        payload=public.DeleteExperimentRequest(experiment_id="e").SerializeToString(),
    )
    subscriber = ScriptedSubscriber()
    store.revisions_fail = 2
    async with running(subscriber, store):
        for count in (1, 2):
            subscriber.put(deletion)
            await until(lambda count=count: subscriber.acked == count)  # type: ignore[misc]  # bound at once
            told = [change.run.run_id for change in watcher.catch_up() if change.experiment_deleted_ms == 1]
            assert sorted(told) == names
    assert store.revisions_fail == 0


async def test_while_the_database_is_away_the_batch_waits_and_nothing_is_acknowledged(store: FaultyStore) -> None:
    tries: list[int] = []
    back = asyncio.Event()

    def fail(batch: Sequence[Write]) -> None:
        tries.append(len(batch))
        if not back.is_set():
            raise StoreUnavailable

    store.fault = fail
    subscriber = ScriptedSubscriber()
    async with running(subscriber, store) as consumer:
        subscriber.put(good_write(1))
        await until(lambda: len(tries) >= 3)
        assert subscriber.acked == 0
        await until(lambda: not consumer.healthy)
        back.set()
        await until(lambda: subscriber.acked == 1)
        await until(lambda: consumer.healthy)
    assert steps_of(store) == [1]


async def test_after_a_lost_channel_its_messages_come_again_and_count_once(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()

    def lose(_batch: Sequence[Write]) -> None:
        if subscriber.session == 1:
            subscriber.lose_session()

    store.fault = lose
    async with running(subscriber, store):
        subscriber.put(good_write(1))
        await until(lambda: subscriber.session == 2)
        assert subscriber.acked == 0
        again = subscriber.put(good_write(1))
        subscriber.put(good_write(2))
        await until(lambda: subscriber.acked == again.tag + 1)
    assert steps_of(store) == [1, 2]


async def test_a_suspect_is_handled_alone_and_forgotten_when_nobody_died(store: FaultyStore) -> None:
    batches: list[list[int]] = []
    store.fault = lambda batch: batches.append([write.sequence for write in batch])
    subscriber = ScriptedSubscriber()
    subscriber.put(good_write(1))
    suspect = subscriber.put(good_write(2), count=limits.SUSPECT_DELIVERY_COUNT)
    subscriber.put(good_write(3))
    async with running(subscriber, store):
        await until(lambda: subscriber.acked == 3)
    assert [2] in batches
    assert store.note_try(_mark(suspect)) == 1, "its tries were forgotten"


async def test_a_message_that_consumers_died_on_again_and_again_is_buried_unseen(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()
    killer = subscriber.put(good_write(1), good_write(2), count=limits.SUSPECT_DELIVERY_COUNT)
    for _ in range(limits.MAX_TRIES_ALONE):
        store.note_try(_mark(killer))
    subscriber.put(good_write(3))
    async with running(subscriber, store):
        await until(lambda: subscriber.acked == 2)
    assert steps_of(store) == [3]
    assert [letter.sequence for letter in subscriber.buried] == [1, 2]


async def test_an_outage_that_delivers_a_message_a_hundred_times_buries_nothing(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()
    subscriber.put(good_write(1), count=100)
    async with running(subscriber, store):
        await until(lambda: subscriber.acked == 1)
    assert steps_of(store) == [1]
    assert not subscriber.buried


async def test_random_bytes_are_buried_and_neighbours_stored(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()
    subscriber.put(good_write(1))
    subscriber.put(body=b"\x00\xff not an envelope")
    subscriber.put(good_write(2))
    async with running(subscriber, store):
        await until(lambda: subscriber.acked == 3)
    assert steps_of(store) == [1, 2]
    assert len(subscriber.buried) == 1


async def test_a_consumer_that_finds_everything_dead_stops(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()
    for _ in range(200):
        subscriber.put(body=b"\xff")
    with pytest.raises(ConsumerStopped, match="nearly every write"):
        await consumer_of(subscriber, store).run(5.0)


async def test_a_full_dead_letter_queue_stops_the_consumer_before_it_acknowledges(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()
    subscriber.dead_queue_full = True
    subscriber.put(body=b"\xff")
    with pytest.raises(ConsumerStopped, match="dead-letter queue is full"):
        await consumer_of(subscriber, store).run(5.0)
    assert subscriber.acked == 0


async def test_a_dead_letter_that_the_broker_does_not_take_holds_nothing_up_and_is_put_away_later(
    store: FaultyStore,
) -> None:
    """Its message alone stays unacknowledged until then, however much is acknowledged after it."""
    subscriber = ScriptedSubscriber()
    subscriber.broker_takes = False
    async with running(subscriber, store):
        subscriber.put(good_write(1))
        bad = subscriber.put(body=b"\xff")
        await until(lambda: subscriber.acked == bad.tag)
        later = subscriber.put(good_write(2))
        worse = subscriber.put(body=b"\xfe")
        await until(lambda: subscriber.acked == worse.tag)
        assert later.tag < subscriber.acked
        assert subscriber.withheld == {bad.tag, worse.tag}
        assert not subscriber.buried
        subscriber.broker_takes = True
        await until(lambda: not subscriber.withheld)
    assert [letter.body for letter in subscriber.buried] == [b"\xff", b"\xfe"]
    assert steps_of(store) == [1, 2]


async def test_a_stop_waits_for_no_dead_letter_that_the_broker_does_not_take(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()
    subscriber.broker_takes = False
    async with running(subscriber, store):
        bad = subscriber.put(body=b"\xff")
        await until(lambda: subscriber.acked == bad.tag)
    assert subscriber.withheld == {bad.tag}, "to be delivered to the next consumer"
    assert not subscriber.buried


async def test_a_dead_letter_of_a_lost_session_is_put_away_when_its_message_comes_again(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()
    subscriber.broker_takes = False
    async with running(subscriber, store):
        first = subscriber.put(body=b"\xff")
        await until(lambda: subscriber.acked == first.tag)
        subscriber.lose_session()
        subscriber.broker_takes = True
        again = subscriber.put(body=b"\xff", count=1)
        await until(lambda: subscriber.acked == again.tag and not subscriber.withheld)
    assert len(subscriber.buried) == 1


async def test_a_dead_letter_queue_that_fills_up_while_letters_wait_stops_the_consumer(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()
    subscriber.broker_takes = False
    consumer = consumer_of(subscriber, store)
    task = asyncio.create_task(consumer.run(5.0))
    bad = subscriber.put(body=b"\xff")
    await until(lambda: subscriber.acked == bad.tag)
    subscriber.dead_queue_full = True
    async with asyncio.timeout(10):
        while not task.done():
            subscriber.put(good_write(subscriber.acked + 1))
            await asyncio.wait({task}, timeout=0.05)
    with pytest.raises(ConsumerStopped, match="dead-letter queue is full"):
        await task
    assert subscriber.withheld == {bad.tag}


async def test_a_stop_flushes_what_was_delivered(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()
    async with running(subscriber, store):
        await until(lambda: bool(subscriber.held))
        for sequence in range(1, 21):
            subscriber.put(good_write(sequence))
    assert subscriber.acked == 20
    assert steps_of(store) == list(range(1, 21))


def _mark(suspect: Delivery) -> str:
    return hashlib.sha256(suspect.body).hexdigest()
