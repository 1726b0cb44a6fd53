"""The battery of ports.Publisher and ports.Subscriber on both adapters."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pika import frame, spec

from tests.contract.broker_contract import MAX_MESSAGES, BrokerContract, Subject, until
from tracker_server.broker.dead_letters import DeadLetters
from tracker_server.broker.frames import content_frames, publish_frame
from tracker_server.broker.memory import MemoryBroker
from tracker_server.broker.publisher import RabbitPublisher
from tracker_server.broker.subscriber import RabbitSubscriber
from tracker_server.config import load_settings
from tracker_server.errors import BrokerUnavailable, QueueFull, ShuttingDown


class TestMemoryBroker(BrokerContract):
    """In this process."""

    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        broker = MemoryBroker(max_messages=MAX_MESSAGES)
        await broker.start()
        yield Subject(broker, broker, waits_for_ack=True, renew=None, buried=None)
        await broker.close()

    async def test_it_is_bounded_in_bytes_but_takes_any_single_message(self) -> None:
        broker = MemoryBroker(max_bytes=100)
        await broker.start()
        big = asyncio.create_task(broker.publish(0, bytes(1000)))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await broker.publish(0, b"x")
        await broker.hold({0: 1})
        delivery = await broker.receive(0)
        assert delivery is not None
        await broker.ack(delivery)
        assert not list(await big)
        await broker.close()

    async def test_the_body_is_not_copied(self) -> None:
        broker = MemoryBroker()
        await broker.start()
        await broker.hold({0: 1})
        body = b"body" * 1000
        publishing = asyncio.create_task(broker.publish(0, body))
        delivery = await broker.receive(1)
        assert delivery is not None
        assert delivery.body is body
        await broker.close()
        with pytest.raises(ShuttingDown):
            await publishing

    async def test_before_the_start_it_says_so(self) -> None:
        with pytest.raises(BrokerUnavailable, match="not been started"):
            await MemoryBroker().publish(0, b"x")


class TestRabbit(BrokerContract):
    """RabbitMQ."""

    @pytest.fixture
    async def subject(self, amqp_url: str) -> AsyncIterator[Subject]:
        settings = load_settings(
            broker_url=amqp_url, database_url="postgresql://unused", partitions=2, queue_max_messages=MAX_MESSAGES
        )
        publisher = RabbitPublisher(settings)
        subscriber = RabbitSubscriber(settings)
        await publisher.start()
        await subscriber.start()
        await until(lambda: publisher.accepting and subscriber.connected)

        async def renew() -> None:
            session = subscriber.session
            channel = subscriber._channel
            assert channel is not None
            channel.raw.close()
            await until(lambda: subscriber.connected and subscriber.session > session)

        async def buried() -> list[tuple[str, bytes]]:
            dead = DeadLetters(settings)
            letters = await asyncio.to_thread(dead.list, 100)
            return [(letter.reason, await asyncio.to_thread(body_of, dead, letter.id)) for letter in letters]

        yield Subject(publisher, subscriber, waits_for_ack=False, renew=renew, buried=buried)
        await publisher.close()
        await subscriber.close()


def body_of(dead: DeadLetters, letter_id: str) -> bytes:
    """A letter's body, which is no envelope here, from its text."""
    text = dead.show(letter_id)
    assert text is not None
    return bytes.fromhex(text.splitlines()[-1])


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 10_000, 8176])
def test_the_frames_made_by_hand_are_those_of_pika(size: int) -> None:
    channel, queue, message_id, largest = 7, "tracker.ingest.3", "0123456789abcdef-1f", 4096
    body = bytes(number % 251 for number in range(size))
    expected = [
        frame.Method(channel, spec.Basic.Publish(exchange="", routing_key=queue, mandatory=True)),
        frame.Header(channel, size, spec.BasicProperties(delivery_mode=2, message_id=message_id)),
        *(frame.Body(channel, body[start : start + largest - 8]) for start in range(0, size, largest - 8)),
    ]
    content = content_frames(channel, message_id.encode(), body, largest)
    made = [publish_frame(channel, queue), *(b"".join(pieces) for pieces in content)]
    assert made == [part.marshal() for part in expected]
