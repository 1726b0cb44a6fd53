"""The broker adapters on a real RabbitMQ: load, sessions, and a broker that is killed or frozen."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.servers import RabbitMQ
from tests.contract.broker_contract import PATIENT, receive, until
from tests.integration.rabbit_harness import Pair, connected, settings_for
from tests.turns import within
from tracker_server.broker.brake import Brake
from tracker_server.broker.subscriber import RabbitSubscriber
from tracker_server.config import Settings
from tracker_server.errors import BrokerUnavailable


@pytest.fixture
def settings(amqp_url: str) -> Settings:
    """Two partitions on an empty virtual host."""
    return settings_for(amqp_url)


@pytest.fixture
async def pair(settings: Settings) -> AsyncIterator[Pair]:
    """Both sides, connected."""
    async with connected(settings) as both:
        yield both


@pytest.fixture(scope="module")
def fragile(servers_directory: Path) -> Iterator[RabbitMQ]:
    """A RabbitMQ of this module's own, to be killed and frozen; each test leaves it running."""
    server = RabbitMQ(servers_directory / "fragile-rabbitmq")
    server.start()
    yield server
    server.stop()
    server.remove()


class TestLoad:
    """Many messages."""

    async def test_twenty_thousand_are_confirmed_and_there_exactly_once(self, pair: Pair) -> None:
        publisher, subscriber = pair
        count = 20_000
        numbers = iter(range(count))

        async def publish_some() -> None:
            for number in numbers:
                assert not await publisher.publish(number % 2, number.to_bytes(4, "big") * (1 + number % 60))

        await asyncio.gather(*(publish_some() for _ in range(200)))
        await subscriber.hold({0: 200, 1: 200})
        seen: list[int] = []
        while len(seen) < count:
            (delivery,) = await receive(subscriber, 1)
            number = int.from_bytes(delivery.body[:4], "big")
            assert len(delivery.body) == 4 * (1 + number % 60)
            seen.append(number)
            if len(seen) % 50 == 0:
                await subscriber.ack(delivery)
        assert sorted(seen) == list(range(count))
        assert await subscriber.receive(0.2) is None

    async def test_large_and_small_messages_mix(self, pair: Pair) -> None:
        publisher, subscriber = pair
        sizes = [0, 1, 65_535, 65_536, 131_063, 131_064, 131_065, 131_072, 300_000, 2_000_000] * 3
        bodies = [bytes([index]) * size for index, size in enumerate(sizes)]
        await asyncio.gather(*(publisher.publish(0, body) for body in bodies))
        await subscriber.hold({0: 100})
        assert [delivery.body for delivery in await receive(subscriber, len(bodies))] == bodies


class TestDeath:
    """The broker goes away."""

    async def test_kill_9_under_load_loses_nothing_confirmed(self, fragile: RabbitMQ) -> None:
        async with connected(settings_for(fragile.url)) as (publisher, subscriber):
            numbers = itertools.count()
            confirmed: set[int] = set()
            seen: set[int] = set()
            stop = asyncio.Event()

            async def publish_some() -> None:
                while not stop.is_set():
                    number = next(numbers)
                    try:
                        await publisher.publish(number % 2, str(number).encode())
                    except BrokerUnavailable:
                        await asyncio.sleep(0.01)
                    else:
                        confirmed.add(number)

            async def consume() -> None:
                while True:
                    delivery = await subscriber.receive(PATIENT)
                    if delivery is not None:
                        seen.add(int(delivery.body))
                        await subscriber.ack(delivery)

            await subscriber.hold({0: 20, 1: 20})
            tasks = [asyncio.create_task(publish_some()) for _ in range(50)]
            consumer = asyncio.create_task(consume())
            await until(lambda: len(confirmed) > 2000, 60)
            session = subscriber.session
            await asyncio.to_thread(fragile.kill)
            await until(lambda: not publisher.accepting and not subscriber.connected)
            with pytest.raises(BrokerUnavailable, match="not connected"):
                await publisher.publish(0, b"")
            await subscriber.hold({0: 30, 1: 20})
            before = len(confirmed)
            await asyncio.to_thread(fragile.start)
            await until(lambda: publisher.accepting and subscriber.connected, 60)
            assert subscriber.session > session
            # The queues take a while to recover; in the meantime a step may time out and be tried again.
            await until(lambda: len(confirmed) > before + 2000, 90)
            stop.set()
            await asyncio.gather(*tasks)
            await until(lambda: confirmed <= seen, 60)
            consumer.cancel()
            await asyncio.wait({consumer})

    async def test_a_frozen_broker_fails_publishes_in_time_and_is_left(self, fragile: RabbitMQ) -> None:
        async with connected(settings_for(fragile.url), confirm_seconds=1.0) as (publisher, _):
            await publisher.publish(0, b"before")
            await asyncio.to_thread(fragile.pause)
            try:
                began = time.monotonic()
                doomed = [asyncio.create_task(publisher.publish(0, b"x")) for _ in range(10)]
                done, _ = await within(4, asyncio.wait(doomed))
                assert all(isinstance(task.exception(), BrokerUnavailable) for task in done)
                assert time.monotonic() - began > 0.9
                await until(lambda: not publisher.accepting)
            finally:
                await asyncio.to_thread(fragile.resume)
            await until(lambda: publisher.accepting, 60)
            await publisher.publish(0, b"after")

    async def test_one_overdue_confirm_alone_does_not_end_the_connection(self, pair: Pair) -> None:
        publisher, _ = pair
        confirms = publisher._sender._confirms
        assert confirms is not None
        lost = confirms._loop.create_future()
        confirms._waiting[confirms._lowest] = lost
        confirms._tag += 1
        confirms._confirm_seconds = 0.5
        # The broker numbers from here on one less than we do: all its confirms are for the one before.
        while not lost.done():
            with contextlib.suppress(BrokerUnavailable):
                await asyncio.wait({asyncio.ensure_future(publisher.publish(1, b"x"))}, timeout=0.05)
        assert publisher.accepting


class TestDeliveries:
    """What the subscriber does beyond the battery."""

    async def test_the_delivery_count_grows_with_each_session(self, pair: Pair) -> None:
        publisher, subscriber = pair
        await subscriber.hold({0: 5})
        await publisher.publish(0, b"x")
        counts = []
        for _ in range(4):
            (delivery,) = await receive(subscriber, 1)
            counts.append(delivery.delivery_count)
            session = subscriber.session
            assert subscriber._channel is not None
            subscriber._channel.raw.close()
            await until(lambda session=session: subscriber.session > session)  # type: ignore[misc]  # bound default
        assert counts == [0, 1, 2, 3]

    async def test_a_second_subscriber_takes_over(self, settings: Settings, pair: Pair) -> None:
        publisher, first = pair
        await first.hold({0: 5, 1: 5})
        second = RabbitSubscriber(settings)
        await second.start()
        await second.hold({0: 5})
        await until(lambda: second.connected)
        await publisher.publish(0, b"1")
        await receive(first, 1)
        # Single active consumer: while the first lives, the second gets nothing.
        assert await second.receive(0.3) is None
        await first.close()
        (delivery,) = await receive(second, 1)
        assert (delivery.body, delivery.delivery_count) == (b"1", 1)
        await second.close()

    async def test_no_more_is_read_than_may_be_held_and_all_comes_in_the_end(self, settings: Settings) -> None:
        """Windows made for small messages, then large ones: fifty of 1 MB at a window of fifty."""
        async with connected(settings) as (publisher, subscriber):
            subscriber._brake = Brake(5_000_000)
            assert subscriber._connection is not None
            subscriber._brake.begin(subscriber._connection)
            bodies = [bytes([number]) * 1_000_000 for number in range(50)]
            for body in bodies:
                await publisher.publish(0, body)
            await subscriber.hold({0: 50})
            await until(lambda: subscriber._brake.paused)
            # What was on its way already is little.
            held = [await asyncio.sleep(0.1, subscriber._brake.held) for _ in range(3)]
            assert held[0] == held[-1] < 10_000_000
            seen: list[bytes] = []
            while len(seen) < len(bodies):
                (delivery,) = await receive(subscriber, 1)
                seen.append(delivery.body)
                await subscriber.ack(delivery)
            assert seen == bodies
            assert not subscriber._brake.paused

    async def test_holds_that_change_all_the_time(self, pair: Pair) -> None:
        publisher, subscriber = pair
        count = 600

        async def change() -> None:
            for number in itertools.count(1):
                await subscriber.hold({partition: 1 + (number + partition) % 9 for partition in range(number % 3)})
                await asyncio.sleep(0)

        async def cancel_one() -> None:
            while True:
                holding = asyncio.create_task(subscriber.hold({0: 3}))
                await asyncio.sleep(0.003)
                holding.cancel()
                await asyncio.wait({holding})

        changing = [asyncio.create_task(change()), asyncio.create_task(cancel_one())]
        try:
            await asyncio.gather(*(publisher.publish(number % 2, str(number).encode()) for number in range(count)))
            seen: list[int] = []
            while len(seen) < count:
                (delivery,) = await receive(subscriber, 1)
                seen.append(int(delivery.body))
                await subscriber.ack(delivery)
            assert sorted(seen) == list(range(count))
            assert subscriber.session == 1
        finally:
            for task in changing:
                task.cancel()
            await asyncio.wait(changing)
