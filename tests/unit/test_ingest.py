"""How writes become messages, what their callers are told, and how much is taken on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.fake_publisher import FakePublisher
from tracker.internal.v1 import envelope_pb2 as internal
from tracker_server.envelope import read_envelope
from tracker_server.errors import (
    BrokerUnavailable,
    QueueFull,
    ShuttingDown,
    TooManyOutstanding,
    TrackerError,
    WriteRefused,
)
from tracker_server.ingest import Ingest, IngestLimits, envelope_of
from tracker_server.partitions import partition_of
from tracker_server.ports import Refusal

ONE_AT_A_TIME = IngestLimits(publishes_in_flight=1)


@pytest.fixture
async def publisher() -> FakePublisher:
    return FakePublisher()


def a_write(number: int, size: int = 0, scope: str = "run") -> internal.Write:
    return internal.Write(scope_id=scope, writer_id="w" * 16, sequence=number, payload=bytes(size))


def submit(ingest: Ingest, *writes: internal.Write, timeout: float | None = 10.0) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(ingest.submit(write, timeout)) for write in writes]


async def answers(tasks: Sequence[asyncio.Task[None]]) -> list[BaseException | None]:
    async with asyncio.timeout(10):
        return await asyncio.gather(*tasks, return_exceptions=True)


def sequences(publisher: FakePublisher) -> list[list[int]]:
    return [[write.sequence for write in envelope.writes] for _, envelope in publisher.messages]


async def test_an_envelope_put_together_from_bytes_is_an_envelope() -> None:
    writes = [a_write(1), a_write(2, 127), a_write(3, 200), a_write(2**62, 2_000_000)]
    body = envelope_of([write.SerializeToString() for write in writes])
    assert body == internal.Envelope(version=1, writes=writes).SerializeToString()
    assert read_envelope(body) == writes


async def test_a_write_goes_to_its_partition_and_returns_when_confirmed(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 8)
    (task,) = submit(ingest, a_write(1, scope="run-1"))
    await publisher.until_published(1)
    assert not task.done()
    assert ingest.outstanding == 1
    publisher.confirm()
    assert await answers([task]) == [None]
    assert publisher.messages[0][0] == partition_of("run-1", 8)
    assert publisher.messages[0][1].version == 1
    assert ingest.outstanding == 0


async def test_what_arrives_together_goes_together(publisher: FakePublisher) -> None:
    ingest = Ingest(publisher, 8)
    assert await answers(submit(ingest, *(a_write(number) for number in range(1, 51)))) == [None] * 50
    assert sequences(publisher) == [[*range(1, 51)]]


async def test_what_arrives_while_a_publish_is_under_way_goes_into_one_message(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 8, ONE_AT_A_TIME)
    tasks = submit(ingest, a_write(1))
    await publisher.until_published(1)
    tasks += submit(ingest, a_write(2), a_write(3))
    await asyncio.sleep(0)
    tasks += submit(ingest, a_write(4))
    await asyncio.sleep(0)
    assert sequences(publisher) == [[1]]
    publisher.confirm()
    await publisher.until_published(2)
    assert sequences(publisher) == [[1], [2, 3, 4]]
    assert [task.done() for task in tasks] == [True, False, False, False]
    publisher.confirm()
    assert await answers(tasks) == [None] * 4


async def test_a_single_caller_waits_for_nobody(publisher: FakePublisher) -> None:
    ingest = Ingest(publisher, 1, IngestLimits(pause_seconds=1_000.0, longest_pause_seconds=1_000.0))
    for number in range(1, 6):
        assert await answers(submit(ingest, a_write(number))) == [None]
    assert sequences(publisher) == [[1], [2], [3], [4], [5]]


async def test_after_a_message_of_several_callers_the_next_one_waits_for_them_however_fast_the_confirm(
    publisher: FakePublisher,
) -> None:
    ingest = Ingest(publisher, 1, IngestLimits(pause_seconds=1_000.0, longest_pause_seconds=0.5))
    assert await answers(submit(ingest, a_write(1), a_write(2))) == [None] * 2
    tasks = submit(ingest, a_write(3))
    await asyncio.sleep(0.001)
    tasks += submit(ingest, a_write(4))
    assert await answers(tasks) == [None] * 2
    assert sequences(publisher) == [[1, 2], [3, 4]]


async def test_no_partition_pauses_for_another_one(publisher: FakePublisher) -> None:
    ingest = Ingest(publisher, 8, IngestLimits(pause_seconds=1_000.0, longest_pause_seconds=1_000.0))
    scopes = list({partition_of(f"run-{number}", 8): f"run-{number}" for number in range(100)}.values())
    await answers(submit(ingest, a_write(1, scope=scopes[0]), a_write(2, scope=scopes[0])))
    assert await answers(submit(ingest, a_write(1, scope=scopes[1]))) == [None]


async def test_partitions_do_not_wait_for_each_other(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 8, ONE_AT_A_TIME)
    scopes = {partition_of(f"run-{number}", 8): f"run-{number}" for number in range(100)}
    tasks = submit(ingest, *(a_write(1, scope=scope) for scope in scopes.values()))
    await publisher.until_published(8)
    assert {partition for partition, _ in publisher.messages} == set(range(8))
    publisher.confirm()
    await answers(tasks)


async def test_publishes_in_flight_are_bounded_per_partition(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1, IngestLimits(publishes_in_flight=2, coalesced_bytes=1))
    tasks = submit(ingest, *(a_write(number) for number in range(1, 8)))
    for done in range(1, 7):
        await publisher.until_published(min(done + 1, 7))
        publisher.confirm(1)
    publisher.release()
    await answers(tasks)
    assert publisher.most_in_flight == 2
    assert sequences(publisher) == [[number] for number in range(1, 8)]


async def test_a_message_has_a_size_limit_or_one_write(publisher: FakePublisher) -> None:
    ingest = Ingest(publisher, 1, IngestLimits(publishes_in_flight=1, coalesced_bytes=1_000))
    sizes = [400, 400, 400, 5_000, 100, 100, 900]
    await answers(submit(ingest, *(a_write(number, size) for number, size in enumerate(sizes, 1))))
    assert sequences(publisher) == [[1, 2], [3], [4], [5, 6], [7]]


@pytest.mark.parametrize("error", [BrokerUnavailable(), QueueFull(), RuntimeError("a bug")])
async def test_an_error_answers_every_write_of_its_message_and_no_other(
    publisher: FakePublisher, error: Exception
) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1, ONE_AT_A_TIME)
    first = submit(ingest, a_write(1))
    await publisher.until_published(1)
    second = submit(ingest, a_write(2), a_write(3))
    await asyncio.sleep(0)
    publisher.confirm()
    await publisher.until_published(2)
    third = submit(ingest, a_write(4))
    await asyncio.sleep(0)
    publisher.fail(error)
    await publisher.until_published(3)
    publisher.confirm()
    assert await answers(first + third) == [None, None]
    assert await answers(second) == [error, error]
    assert ingest.outstanding == 0


async def test_a_refusal_answers_its_write_alone(publisher: FakePublisher) -> None:
    publisher.refusals = [Refusal(1, "a name that cannot be stored")]
    ingest = Ingest(publisher, 1)
    first, second, third = await answers(submit(ingest, a_write(1), a_write(2), a_write(3)))
    assert (first, third) == (None, None)
    assert isinstance(second, WriteRefused)
    assert str(second) == "a name that cannot be stored"


async def test_a_broker_that_is_away_is_told_at_once(publisher: FakePublisher) -> None:
    ingest = Ingest(publisher, 1)
    accepting = [ingest.accepting]
    publisher.accepting = False
    accepting.append(ingest.accepting)
    assert accepting == [True, False]
    with pytest.raises(BrokerUnavailable, match="nothing was written") as caught:
        await ingest.submit(a_write(1), None)
    assert caught.value.metadata == {"outcome": "not_written"}
    assert publisher.messages == []


async def test_what_is_turned_away_is_counted_for_its_partition(publisher: FakePublisher) -> None:
    ingest = Ingest(publisher, 2, IngestLimits(outstanding_writes=2))
    here, there = (next(f"r{n}" for n in range(99) if partition_of(f"r{n}", 2) == partition) for partition in (0, 1))
    publisher.accepting = False
    await answers(submit(ingest, a_write(1, scope=here)))
    publisher.accepting, publisher.error = True, QueueFull()
    await answers(submit(ingest, a_write(1, scope=here), a_write(2, scope=here)))
    assert [ingest.turned_away(partition) for partition in (0, 1)] == [3, 0]
    publisher.error, publisher.held = None, True
    tasks = submit(ingest, a_write(1, scope=here), a_write(2, scope=here), a_write(3, scope=there))
    await publisher.until_published(2)
    publisher.release()
    await answers(tasks)
    publisher.refusals = [Refusal(0, "can never be stored")]
    await answers([*submit(ingest, a_write(4, scope=here)), *submit(ingest, a_write(5, scope=here), timeout=0)])
    assert [ingest.turned_away(partition) for partition in (0, 1)] == [3, 1]


async def refused(ingest: Ingest, write: internal.Write) -> TrackerError:
    with pytest.raises(TooManyOutstanding) as caught:
        await ingest.submit(write, 10)
    return caught.value


async def test_outstanding_writes_are_bounded(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1, IngestLimits(outstanding_writes=3))
    tasks = submit(ingest, a_write(1), a_write(2), a_write(3))
    await publisher.until_published(1)
    error = await refused(ingest, a_write(4))
    assert (error.metadata["outstanding_writes"], error.metadata["max_outstanding_writes"]) == ("3", "3")
    publisher.release()
    assert await answers(tasks) == [None] * 3
    await ingest.submit(a_write(4), 10)


async def test_outstanding_bytes_are_bounded(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1, IngestLimits(publishes_in_flight=1, outstanding_bytes=10_000))
    sent = submit(ingest, a_write(1, 5_000))
    await publisher.until_published(1)
    waiting = submit(ingest, a_write(2, 4_800))
    await asyncio.sleep(0)
    await refused(ingest, a_write(3, 200))
    waiting[0].cancel()
    await answers(waiting)
    sent += submit(ingest, a_write(4, 4_800))
    await asyncio.sleep(0)
    await refused(ingest, a_write(5, 200))
    publisher.release()
    assert await answers(sent) == [None, None]
    assert sequences(publisher) == [[1], [4]]
    await ingest.submit(a_write(6, 9_000), 10)


async def test_a_cancelled_caller_who_was_not_sent_is_dropped(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1, ONE_AT_A_TIME)
    tasks = submit(ingest, a_write(1))
    await publisher.until_published(1)
    tasks += submit(ingest, a_write(2), a_write(3), a_write(4))
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.sleep(0)
    publisher.release()
    first, second, third, fourth = await answers(tasks)
    assert (first, second, fourth) == (None, None, None)
    assert isinstance(third, asyncio.CancelledError)
    assert sequences(publisher) == [[1], [2, 4]]
    assert ingest.outstanding == 0


async def test_a_cancelled_caller_who_was_sent_disturbs_nobody(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1)
    tasks = submit(ingest, a_write(1), a_write(2))
    await publisher.until_published(1)
    tasks[0].cancel()
    await asyncio.sleep(0)
    assert ingest.outstanding == 2, "its bytes are still with the publisher"
    publisher.fail(QueueFull())
    first, second = await answers(tasks)
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(second, QueueFull)
    assert ingest.outstanding == 0


async def test_the_deadline_of_a_write_that_was_sent_leaves_its_outcome_open(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1)
    with pytest.raises(BrokerUnavailable, match="may or may not") as caught:
        await ingest.submit(a_write(1), 0.01)
    assert caught.value.metadata == {"outcome": "unknown"}
    publisher.confirm()
    assert await ingest.drain(10) == 0


async def test_the_deadline_of_a_write_that_was_not_sent_takes_it_back(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1, ONE_AT_A_TIME)
    first = submit(ingest, a_write(1))
    await publisher.until_published(1)
    with pytest.raises(BrokerUnavailable, match="nothing was written") as caught:
        await ingest.submit(a_write(2), 0.01)
    assert caught.value.metadata == {"outcome": "not_written"}
    publisher.release()
    await answers(first)
    assert await ingest.drain(10) == 0
    assert sequences(publisher) == [[1]]


async def test_a_deadline_that_is_over_sends_nothing(publisher: FakePublisher) -> None:
    ingest = Ingest(publisher, 1)
    with pytest.raises(BrokerUnavailable, match="nothing was written"):
        await ingest.submit(a_write(1), 0.0)
    assert publisher.messages == []


async def test_a_caller_without_a_deadline_does_not_wait_for_ever(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1, IngestLimits(longest_wait_seconds=0.01))
    with pytest.raises(BrokerUnavailable):
        await ingest.submit(a_write(1), None)
    publisher.confirm()


async def test_drain_waits_for_what_was_taken_and_takes_no_more(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1, ONE_AT_A_TIME)
    tasks = submit(ingest, a_write(1))
    await publisher.until_published(1)
    tasks += submit(ingest, a_write(2))
    await asyncio.sleep(0)
    drain = asyncio.create_task(ingest.drain(10))
    await asyncio.sleep(0)
    assert not ingest.accepting
    with pytest.raises(ShuttingDown):
        await ingest.submit(a_write(3), 10)
    assert not drain.done()
    publisher.release()
    assert await drain == 0
    assert await answers(tasks) == [None, None]
    assert sequences(publisher) == [[1], [2]]


async def test_drain_gives_up_in_time_and_says_what_is_left(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1, ONE_AT_A_TIME)
    sent = submit(ingest, a_write(1))
    await publisher.until_published(1)
    waiting = submit(ingest, a_write(2))
    await asyncio.sleep(0)
    assert await ingest.drain(0.01) == 2
    assert isinstance((await answers(waiting))[0], ShuttingDown)
    assert isinstance((await answers(sent))[0], BrokerUnavailable)
    await publisher.close()
    assert await ingest.drain(10) == 0
    assert sequences(publisher) == [[1]]


async def test_drain_of_an_idle_ingest_returns_at_once() -> None:
    assert await Ingest(FakePublisher(), 1).drain(0) == 0


async def test_thousands_of_callers_who_come_and_go(publisher: FakePublisher) -> None:
    ingest = Ingest(publisher, 4)
    publisher.held = True
    tasks = submit(ingest, *(a_write(number, scope=f"run-{number % 50}") for number in range(1, 4_001)))
    await publisher.until_published(4)
    gone = tasks[::7]
    for task in gone:
        task.cancel()
    publisher.release()
    outcomes = await answers(tasks)
    assert sum(outcome is None for outcome in outcomes) == 4_000 - len(gone)
    assert await ingest.drain(10) == 0
    assert len({write.sequence for write in publisher.writes}) == len(publisher.writes)
