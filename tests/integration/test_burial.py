"""Dead letters that a real RabbitMQ does not take just now."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from deploy.servers import RabbitMQ
from tests.contract.broker_contract import BRIEF, receive, until
from tests.integration.rabbit_harness import connected, settings_for
from tracker_server.broker import subscriber as subscriber_module
from tracker_server.broker.dead_letters import DeadLetters
from tracker_server.config import Settings
from tracker_server.consumer.batch import whole_letter
from tracker_server.consumer.burial import Burial
from tracker_server.store.ledger import DeadWrite


@pytest.fixture
def settings(amqp_url: str) -> Settings:
    """Two partitions on an empty virtual host."""
    return settings_for(amqp_url)


async def nothing_to_mark(_session: int, _dead: Sequence[DeadWrite]) -> None:
    """Whole messages have no numbers that a database could know."""


@asynccontextmanager
async def alarm(rabbitmq: RabbitMQ) -> AsyncIterator[None]:
    """The broker is short of memory, and reads no connection that publishes."""
    await set_watermark(rabbitmq, "1000")
    try:
        yield
    finally:
        await set_watermark(rabbitmq, f'"{rabbitmq.memory}"')


async def set_watermark(rabbitmq: RabbitMQ, bytes_of_memory: str) -> None:
    """How much memory the broker may use before it raises the alarm."""
    expression = f"vm_memory_monitor:set_vm_memory_high_watermark({{absolute, {bytes_of_memory}}})"
    await asyncio.to_thread(rabbitmq.evaluate, expression)


async def test_under_an_alarm_the_queue_is_emptied_but_for_what_waits_to_be_buried(
    rabbitmq: RabbitMQ, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "STEP_SECONDS", 0.2)
    async with connected(settings) as (publisher, subscriber):
        await subscriber.hold({0: 10})
        await asyncio.gather(*(publisher.publish(0, body) for body in (b"good", b"bad", b"better", b"worse", b"best")))
        deliveries = await receive(subscriber, 5)
        burial = Burial(subscriber, nothing_to_mark)
        async with alarm(rabbitmq):
            await until(lambda: not publisher.accepting)
            for number in (1, 3):
                await burial.bury(deliveries[number], [whole_letter(deliveries[number], "cannot be read")])
            await subscriber.ack(deliveries[4])
            assert burial.waiting == 2
            # A consumer that ends now leaves just these to the next one.
            await burial.close()
            await subscriber.close()
            async with connected_subscriber(settings) as next_one:
                await next_one.hold({0: 10})
                again = await receive(next_one, 2)
                assert [delivery.body for delivery in again] == [b"bad", b"worse"]
                assert await next_one.receive(BRIEF) is None
                burial = Burial(next_one, nothing_to_mark)
                for delivery in again:
                    await burial.bury(delivery, [whole_letter(delivery, "cannot be read")])
                await next_one.ack(again[-1])
                assert burial.waiting == 2
                await set_watermark(rabbitmq, f'"{rabbitmq.memory}"')
                await until(lambda: not burial.waiting)
                await burial.close()
        letters = await asyncio.to_thread(DeadLetters(settings).list, 10)
        assert [letter.size_bytes for letter in letters] == [3, 5]
    async with connected_subscriber(settings) as last:
        await last.hold({0: 10})
        assert await last.receive(BRIEF) is None


@asynccontextmanager
async def connected_subscriber(settings: Settings) -> AsyncIterator[subscriber_module.RabbitSubscriber]:
    """One, which has never published."""
    subscriber = subscriber_module.RabbitSubscriber(settings)
    try:
        await subscriber.start()
        await until(lambda: subscriber.connected)
        yield subscriber
    finally:
        await subscriber.close()
