"""What every adapter of ports.Publisher and ports.Subscriber has to do. A subclass gives the fixture `subject`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from tests.turns import at_once, within
from tracker_server.errors import BrokerUnavailable, QueueFull, ShuttingDown
from tracker_server.ports import DeadLetter, Delivery, Publisher, Refusal, Subscriber

PATIENT = 20.0
"""Seconds, for what is not about time."""
BRIEF = 0.3
"""Seconds in which nothing is expected to arrive."""
MAX_MESSAGES = 200
"""What a queue takes at most."""

Publishing = asyncio.Task[Sequence[Refusal]]


@dataclass(frozen=True, slots=True)
class Subject:
    """An adapter, and the means to do to it what the world does."""

    publisher: Publisher
    subscriber: Subscriber
    """Of the same broker. Both are started and connected; queues are empty; there are two partitions."""
    waits_for_ack: bool
    """publish returns only when the consumer has acknowledged."""
    renew: Callable[[], Awaitable[None]] | None
    """Makes the subscriber lose its session; None where sessions last as long as the process."""
    buried: Callable[[], Awaitable[list[tuple[str, bytes]]]] | None
    """Reason and body of every dead letter; None where there is no such queue."""


async def until(condition: Callable[[], object], seconds: float = PATIENT) -> None:
    """Waits for a condition."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the conditions are states, which nobody announces
            await asyncio.sleep(0.005)


async def receive(subscriber: Subscriber, count: int) -> list[Delivery]:
    """So many deliveries."""
    deliveries: list[Delivery] = []
    for _ in range(count):
        delivery = await subscriber.receive(PATIENT)
        assert delivery is not None, f"only {len(deliveries)} of {count} arrived"
        deliveries.append(delivery)
    return deliveries


class BrokerContract:
    """The battery."""

    async def test_deliveries_come_whole_and_in_order(self, subject: Subject) -> None:
        bodies = [b"", b"a", bytes(range(256)), *(bytes([number]) * 3 for number in range(20)), b"big" * 200_000]
        await subject.subscriber.hold({0: 100})
        publishing = await self.publish(subject, 0, bodies)
        deliveries = await receive(subject.subscriber, len(bodies))
        assert [delivery.body for delivery in deliveries] == bodies
        tags = [delivery.tag for delivery in deliveries]
        assert tags == sorted(set(tags))
        assert {(d.partition, d.session, d.delivery_count) for d in deliveries} == {(0, subject.subscriber.session, 0)}
        await subject.subscriber.ack(deliveries[-1])
        assert [list(refusals) for refusals in await asyncio.gather(*publishing)] == [[]] * len(bodies)

    async def test_receive_waits_as_long_as_it_is_told(self, subject: Subject) -> None:
        assert subject.publisher.accepting
        assert subject.subscriber.connected
        await subject.subscriber.hold({0: 1})
        for _ in range(1000):
            assert await at_once(subject.subscriber.receive(0)) is None
        began = time.monotonic()
        assert await within(2, subject.subscriber.receive(0.1)) is None
        assert time.monotonic() - began > 0.09
        waiting = asyncio.create_task(subject.subscriber.receive(PATIENT))
        publishing = await self.publish(subject, 0, [b"x"])
        delivery = await waiting
        assert delivery is not None
        await subject.subscriber.ack(delivery)
        await asyncio.gather(*publishing)

    async def test_a_cancelled_receive_loses_nothing(self, subject: Subject) -> None:
        await subject.subscriber.hold({0: 10})
        waiting = asyncio.create_task(subject.subscriber.receive(PATIENT))
        await asyncio.sleep(0)
        publishing = await self.publish(subject, 0, [b"x"])
        waiting.cancel()
        await asyncio.wait({waiting})
        if waiting.cancelled():
            await subject.subscriber.ack((await receive(subject.subscriber, 1))[0])
        else:
            delivery = waiting.result()
            assert delivery is not None
            await subject.subscriber.ack(delivery)
        await asyncio.gather(*publishing)

    async def test_an_ack_covers_all_before_it(self, subject: Subject) -> None:
        await subject.subscriber.hold({0: 10, 1: 10})
        publishing = [await self.publish(subject, number % 2, [bytes([number])]) for number in range(6)]
        deliveries = await receive(subject.subscriber, 6)
        await subject.subscriber.ack(deliveries[3])
        done = [task for (task,) in publishing]
        if subject.waits_for_ack:
            acknowledged = {delivery.body[0] for delivery in deliveries[:4]}
            await until(lambda: all(done[number].done() for number in acknowledged))
            assert not any(done[number].done() for number in set(range(6)) - acknowledged)
        await subject.subscriber.ack(deliveries[3])
        await subject.subscriber.ack(deliveries[0])
        await subject.subscriber.ack(deliveries[5])
        await asyncio.gather(*done)
        if subject.renew:
            await subject.renew()
            assert await subject.subscriber.receive(BRIEF) is None

    async def test_what_is_unacknowledged_comes_again_in_a_new_session(self, subject: Subject) -> None:
        if subject.renew is None:
            pytest.skip("a session lasts as long as the process")
        await subject.subscriber.hold({0: 10})
        await asyncio.gather(*await self.publish(subject, 0, [b"0", b"1", b"2", b"3"]))
        before = await receive(subject.subscriber, 3)
        await subject.subscriber.ack(before[0])
        await subject.renew()
        assert subject.subscriber.session > before[0].session
        await subject.subscriber.ack(before[2])
        after = await receive(subject.subscriber, 3)
        assert [delivery.body for delivery in after] == [b"1", b"2", b"3"]
        assert {delivery.session for delivery in after} == {subject.subscriber.session}
        assert after[0].delivery_count == 1
        with pytest.raises(BrokerUnavailable):
            await subject.subscriber.bury(before[1], [(-1, DeadLetter(b"x", 0, "of an old session"))])
        await subject.subscriber.ack(after[-1])

    async def test_a_cancelled_publisher_disturbs_nobody(self, subject: Subject) -> None:
        await subject.subscriber.hold({0: 10})
        publishing = await self.publish(subject, 0, [b"0", b"1", b"2"])
        publishing[1].cancel()
        await asyncio.wait({publishing[1]})
        await subject.subscriber.ack((await receive(subject.subscriber, 3))[-1])
        assert not list(await publishing[0])
        assert not list(await publishing[2])
        (again,) = await self.publish(subject, 0, [b"3"])
        await subject.subscriber.ack((await receive(subject.subscriber, 1))[0])
        assert not list(await again)

    async def test_only_what_is_held_is_delivered(self, subject: Subject) -> None:
        publishing = await self.publish(subject, 0, [b"0"]) + await self.publish(subject, 1, [b"1"])
        await subject.subscriber.hold({})
        assert await subject.subscriber.receive(BRIEF) is None
        await subject.subscriber.hold({1: 5})
        (delivery,) = await receive(subject.subscriber, 1)
        assert (delivery.partition, delivery.body) == (1, b"1")
        await subject.subscriber.ack(delivery)
        await subject.subscriber.hold({0: 5})
        publishing += await self.publish(subject, 1, [b"2"])
        (delivery,) = await receive(subject.subscriber, 1)
        assert (delivery.partition, delivery.body) == (0, b"0")
        await subject.subscriber.ack(delivery)
        assert await subject.subscriber.receive(BRIEF) is None
        await subject.subscriber.hold({0: 5, 1: 5})
        (delivery,) = await receive(subject.subscriber, 1)
        assert (delivery.partition, delivery.body) == (1, b"2")
        await subject.subscriber.ack(delivery)
        await asyncio.gather(*publishing)

    async def test_a_partition_given_up_leaves_what_it_delivered(self, subject: Subject) -> None:
        publishing = await self.publish(subject, 0, [b"0", b"1", b"2", b"3"])
        await subject.subscriber.hold({0: 3})
        (first,) = await receive(subject.subscriber, 1)
        await subject.subscriber.hold({})
        rest = await self.drain(subject.subscriber)
        await subject.subscriber.ack(rest[-1] if rest else first)
        assert [b"0", *(delivery.body for delivery in rest)] == [b"0", b"1", b"2", b"3"][: 1 + len(rest)]
        assert await subject.subscriber.receive(BRIEF) is None
        await subject.subscriber.hold({0: 3})
        left = 3 - len(rest)
        again = await receive(subject.subscriber, left)
        assert [delivery.body for delivery in again] == [b"1", b"2", b"3"][len(rest) :]
        await subject.subscriber.ack(again[-1])
        await asyncio.gather(*publishing)

    async def test_the_prefetch_bounds_what_is_unacknowledged(self, subject: Subject) -> None:
        publishing = await self.publish(subject, 0, [bytes([number]) for number in range(10)])
        await subject.subscriber.hold({0: 2})
        deliveries = await receive(subject.subscriber, 2)
        assert await subject.subscriber.receive(BRIEF) is None
        await subject.subscriber.ack(deliveries[0])
        deliveries += await receive(subject.subscriber, 1)
        assert await subject.subscriber.receive(BRIEF) is None
        await subject.subscriber.ack(deliveries[-1])
        await subject.subscriber.hold({0: 7})
        deliveries += await receive(subject.subscriber, 7)
        await subject.subscriber.ack(deliveries[-1])
        assert [delivery.body[0] for delivery in deliveries] == list(range(10))
        await asyncio.gather(*publishing)

    async def test_a_prefetch_of_nothing_is_refused(self, subject: Subject) -> None:
        with pytest.raises(ValueError, match="prefetch"):
            await subject.subscriber.hold({0: 0})

    async def test_a_full_queue_refuses_and_recovers(self, subject: Subject) -> None:
        publishing: list[Publishing] = []
        async with asyncio.timeout(PATIENT):
            while not any(task.done() and task.exception() for task in publishing):
                publishing += await self.publish(subject, 0, [b"x"] * 50)
                await asyncio.sleep(0.01)
        refused = [task for task in publishing if task.done() and task.exception()]
        assert all(isinstance(task.exception(), QueueFull) for task in refused)
        await subject.subscriber.hold({0: 50})
        while not all(task.done() for task in publishing) or subject.waits_for_ack:
            delivery = await subject.subscriber.receive(BRIEF)
            if delivery is None:
                break
            await subject.subscriber.ack(delivery)
        results = await asyncio.gather(*publishing, return_exceptions=True)
        taken = [result for result in results if not isinstance(result, QueueFull)]
        assert MAX_MESSAGES <= len(taken) < len(results)
        await self.drain(subject.subscriber, BRIEF)
        (again,) = await self.publish(subject, 0, [b"again"])
        last = (await self.drain(subject.subscriber, BRIEF))[-1]
        await subject.subscriber.ack(last)
        assert not list(await again)

    async def test_bury_puts_the_reason_away_before_the_ack(self, subject: Subject) -> None:
        await subject.subscriber.hold({0: 5})
        publishing = await self.publish(subject, 0, [b"good", b"bad"])
        deliveries = await receive(subject.subscriber, 2)
        letters = [
            (3, DeadLetter(b"three", 0, "a value that cannot be", "run", "w" * 16, 7)),
            (1, DeadLetter(b"one", 0, "x" * 5000 + "\ud800")),
        ]
        await subject.subscriber.bury(deliveries[1], letters)
        if subject.waits_for_ack:
            assert not publishing[1].done()
        await subject.subscriber.ack(deliveries[1])
        good, bad = await asyncio.gather(*publishing)
        assert not list(good)
        if subject.waits_for_ack:
            assert [refusal.index for refusal in bad] == [1, 3]
            assert bad[1].reason == "a value that cannot be"
        if subject.buried:
            assert await subject.buried() == [("a value that cannot be", b"three"), ("x" * 1000, b"one")]

    async def test_what_is_withheld_is_acknowledged_only_when_it_is_released(self, subject: Subject) -> None:
        await subject.subscriber.hold({0: 10})
        publishing = await self.publish(subject, 0, [b"0", b"1", b"2", b"3", b"4"])
        deliveries = await receive(subject.subscriber, 5)
        for withheld in (1, 3):
            subject.subscriber.withhold(deliveries[withheld])
        await subject.subscriber.ack(deliveries[2])
        await subject.subscriber.ack(deliveries[4])
        if subject.waits_for_ack:
            await until(publishing[4].done)
            assert [task.done() for task in publishing] == [True, False, True, False, True]
        await subject.subscriber.release(deliveries[1])
        await publishing[1]
        if subject.renew:
            await subject.renew()
            (again,) = await receive(subject.subscriber, 1)
            assert again.body == b"3"
            await subject.subscriber.release(deliveries[3])
            await subject.subscriber.ack(again)
            await subject.renew()
            assert await subject.subscriber.receive(BRIEF) is None
        else:
            await subject.subscriber.release(deliveries[3])
        await asyncio.gather(*publishing)

    async def test_what_is_released_before_an_ack_has_reached_it_waits_for_that(self, subject: Subject) -> None:
        await subject.subscriber.hold({0: 10})
        publishing = await self.publish(subject, 0, [b"0", b"1"])
        deliveries = await receive(subject.subscriber, 2)
        subject.subscriber.withhold(deliveries[0])
        await subject.subscriber.release(deliveries[0])
        if subject.waits_for_ack:
            assert not publishing[0].done()
        await subject.subscriber.ack(deliveries[1])
        await asyncio.gather(*publishing)
        if subject.renew:
            await subject.renew()
            assert await subject.subscriber.receive(BRIEF) is None

    async def test_close_fails_what_is_pending_and_may_be_repeated(self, subject: Subject) -> None:
        publishing = await self.publish(subject, 1, [b"x"])
        await subject.publisher.close()
        await subject.subscriber.close()
        (result,) = await asyncio.gather(*publishing, return_exceptions=True)
        assert isinstance(result, BrokerUnavailable | ShuttingDown) or not result
        with pytest.raises((BrokerUnavailable, ShuttingDown)):
            await subject.publisher.publish(0, b"x")
        assert not subject.publisher.accepting
        assert not subject.subscriber.connected
        assert await subject.subscriber.receive(PATIENT) is None
        await subject.subscriber.hold({0: 1})
        await subject.publisher.close()
        await subject.subscriber.close()

    async def test_close_wakes_a_waiting_receiver(self, subject: Subject) -> None:
        waiting = asyncio.create_task(subject.subscriber.receive(PATIENT))
        await asyncio.sleep(0)
        await subject.subscriber.close()
        assert await waiting is None

    async def publish(self, subject: Subject, partition: int, bodies: Sequence[bytes]) -> list[Publishing]:
        """Begins to publish, in this order."""

        async def publish(body: bytes) -> Sequence[Refusal]:
            return await subject.publisher.publish(partition, body)

        publishing = [asyncio.create_task(publish(body)) for body in bodies]
        await asyncio.sleep(0)
        if not subject.waits_for_ack:
            await asyncio.wait(publishing)
        return publishing

    async def drain(self, subscriber: Subscriber, seconds: float = 0) -> list[Delivery]:
        """All that has arrived; acknowledges on the way when it waits for more."""
        deliveries = []
        while (delivery := await subscriber.receive(seconds)) is not None:
            deliveries.append(delivery)
            if seconds:
                await subscriber.ack(delivery)
        return deliveries
