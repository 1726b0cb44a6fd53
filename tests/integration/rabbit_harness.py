"""Both sides of RabbitMQ for tests, and the means to do to it what they never would."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.contract.broker_contract import PATIENT, until
from tracker_server.broker import amqp
from tracker_server.broker.amqp import Connection, parameters
from tracker_server.broker.publisher import RabbitPublisher
from tracker_server.broker.subscriber import RabbitSubscriber
from tracker_server.config import Settings, load_settings

Pair = tuple[RabbitPublisher, RabbitSubscriber]


def settings_for(url: str, **changes: int) -> Settings:
    """Settings with two partitions."""
    return load_settings(broker_url=url, database_url="postgresql://unused", partitions=2, **changes)


@contextlib.asynccontextmanager
async def connected(settings: Settings, confirm_seconds: float = 10.0) -> AsyncIterator[Pair]:
    """Both sides, connected; closed afterwards."""
    publisher, subscriber = RabbitPublisher(settings, confirm_seconds), RabbitSubscriber(settings, confirm_seconds)
    try:
        await publisher.start()
        await subscriber.start()
        await until(lambda: publisher.accepting and subscriber.connected)
        yield publisher, subscriber
    finally:
        await publisher.close()
        await subscriber.close()


@contextlib.asynccontextmanager
async def channel_of(settings: Settings) -> AsyncIterator[amqp.Channel]:
    """A bare channel, to do what the adapters never would."""
    connection = await Connection.open(parameters(settings, "test"))
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def delete_queue(settings: Settings, queue: str) -> None:
    """Takes a queue away under the adapters."""
    async with channel_of(settings) as channel:
        deleted = asyncio.get_running_loop().create_future()
        channel.raw.queue_delete(queue, callback=deleted.set_result)
        await deleted


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits for a condition that takes a question to the broker."""
    async with asyncio.timeout(PATIENT):
        while not await condition():  # noqa: ASYNC110 - the conditions are the broker's, which announces nothing
            await asyncio.sleep(0.01)
