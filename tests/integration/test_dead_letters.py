"""The dead-letter queue on a real RabbitMQ, as the command line sees it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.servers.ports import free_port
from tests.contract.broker_contract import PATIENT, receive
from tests.integration.rabbit_harness import Pair, connected, eventually, settings_for
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server.broker.dead_letters import DeadLetters, ReplayCounts
from tracker_server.config import Settings
from tracker_server.errors import BrokerUnavailable
from tracker_server.ports import DeadLetter


@pytest.fixture
def settings(amqp_url: str) -> Settings:
    """Two partitions on an empty virtual host."""
    return settings_for(amqp_url)


@pytest.fixture
async def pair(settings: Settings) -> AsyncIterator[Pair]:
    """Both sides, connected."""
    async with connected(settings) as both:
        yield both


class TestDeadLetters:
    """The dead-letter queue, as the command line sees it."""

    async def test_list_show_replay_and_purge(self, settings: Settings, pair: Pair) -> None:
        publisher, subscriber = pair
        await subscriber.hold({0: 5, 1: 5})
        await publisher.publish(0, b"whatever")
        (delivery,) = await receive(subscriber, 1)
        point = public.LogMetricRequest(run_id="run-1", name="loss", value=float("nan"), step=3)
        write = internal.Write(
            kind=internal.WRITE_KIND_LOG_METRIC,
            scope_id="run-1",
            writer_id="w" * 16,
            sequence=7,
            payload=point.SerializeToString(),
        )
        body = internal.Envelope(version=1, writes=[write]).SerializeToString()
        letters = [
            DeadLetter(body, 1, "impossible", "run-1", "w" * 16, 7),
            DeadLetter(b"\xff\xfe", 0, "not an envelope"),
            DeadLetter(body, 99, "of a partition that is no more"),
        ]
        await subscriber.bury(delivery, list(enumerate(letters)))
        await subscriber.ack(delivery)
        dead = DeadLetters(settings)
        first, second, third = await asyncio.to_thread(dead.list, 10)
        assert (first.reason, first.partition, first.scope_id, first.writer_id, first.sequence, first.size_bytes) == (
            "impossible",
            1,
            "run-1",
            "w" * 16,
            7,
            len(body),
        )
        assert first.version == "0.1.0"
        assert first.died_at.endswith("+00:00")
        assert [len(letter.id) for letter in (first, second, third)] == [32] * 3
        for _ in range(25):
            assert await asyncio.to_thread(dead.list, 2) == (first, second)
        text = await asyncio.to_thread(dead.show, first.id)
        assert text is not None
        assert all(part in text for part in ("impossible", "WRITE_KIND_LOG_METRIC", '"loss"', "nan", "run-1"))
        assert "ff fe" in str(await asyncio.to_thread(dead.show, second.id))
        assert await asyncio.to_thread(dead.show, "nonsense") is None

        assert await asyncio.to_thread(dead.replay, [first.id, "nonsense"]) == ReplayCounts(1, 0, 1)
        (delivery,) = await receive(subscriber, 1)
        assert (delivery.partition, delivery.body, delivery.delivery_count) == (1, body, 0)
        assert await asyncio.to_thread(dead.replay) == ReplayCounts(replayed=1, refused=1, missing=0)
        assert (await receive(subscriber, 1))[0].body == b"\xff\xfe"
        assert await asyncio.to_thread(dead.list, 10) == (third,)
        assert await asyncio.to_thread(dead.purge, [third.id, "nonsense"]) == 1
        assert await asyncio.to_thread(dead.list, 10) == ()

    async def test_what_the_broker_buries_is_listed_and_replayed(self, settings: Settings, pair: Pair) -> None:
        publisher, subscriber = pair
        await subscriber.hold({1: 5})
        await publisher.publish(1, b"rejected")
        (delivery,) = await receive(subscriber, 1)
        assert subscriber._channel is not None
        subscriber._channel.raw.basic_reject(delivery.tag, requeue=False)
        dead = DeadLetters(settings)

        async def there() -> bool:
            return bool(await asyncio.to_thread(dead.list, 10))

        await eventually(there)
        (letter,) = await asyncio.to_thread(dead.list, 10)
        assert (letter.reason, letter.partition, letter.size_bytes) == ("broker: rejected", 1, 8)
        assert letter.died_at.endswith("+00:00")
        assert await asyncio.to_thread(dead.replay, [letter.id]) == ReplayCounts(1, 0, 0)
        (delivery,) = await receive(subscriber, 1)
        assert (delivery.body, delivery.delivery_count) == (b"rejected", 0)

    async def test_a_letter_that_dies_again_is_not_met_again(self, settings: Settings, pair: Pair) -> None:
        publisher, subscriber = pair
        await subscriber.hold({0: 5})

        async def bury_everything() -> None:
            while (delivery := await subscriber.receive(PATIENT)) is not None:
                await subscriber.bury(delivery, [(-1, DeadLetter(delivery.body, 0, "always"))])
                await subscriber.ack(delivery)

        burying = asyncio.create_task(bury_everything())
        await asyncio.gather(*(publisher.publish(0, bytes([number])) for number in range(10)))
        dead = DeadLetters(settings)

        async def all_there() -> bool:
            return len(await asyncio.to_thread(dead.list, 100)) == 10

        await eventually(all_there)
        assert await asyncio.to_thread(dead.replay) == ReplayCounts(10, 0, 0)
        await eventually(all_there)
        burying.cancel()
        await asyncio.wait({burying})

    def test_without_a_broker_or_a_queue(self, amqp_url: str) -> None:
        with pytest.raises(BrokerUnavailable, match=r"tracker\.dead"):
            DeadLetters(settings_for(amqp_url)).list(1)
        with pytest.raises(BrokerUnavailable):
            DeadLetters(settings_for(f"amqp://127.0.0.1:{free_port()}/")).list(1)
