"""A RabbitMQ that lives and does not want: alarms, full and missing queues, other arguments."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from deploy.servers import RabbitMQ
from tests.contract.broker_contract import PATIENT, receive, until
from tests.integration.rabbit_harness import Pair, connected, delete_queue, eventually, settings_for
from tracker_server.broker import topology
from tracker_server.broker.publisher import RabbitPublisher
from tracker_server.config import Settings
from tracker_server.errors import BrokerUnavailable, QueueFull
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


class TestRefusal:
    """The broker lives and does not want."""

    async def test_a_blocked_connection_stops_admission_at_once(self, rabbitmq: RabbitMQ, pair: Pair) -> None:
        publisher, subscriber = pair
        await subscriber.hold({0: 5})
        await publisher.publish(0, b"before")
        (delivery,) = await receive(subscriber, 1)

        async def alarm(watermark: str) -> None:
            expression = f"vm_memory_monitor:set_vm_memory_high_watermark({{absolute, {watermark}}})"
            await asyncio.to_thread(rabbitmq.evaluate, expression)

        await alarm("1000")
        try:
            await until(lambda: not publisher.accepting, 5)
            with pytest.raises(BrokerUnavailable, match="takes no messages"):
                await publisher.publish(0, b"x")
            # Who has only consumed goes on.
            await subscriber.ack(delivery)
            assert subscriber.connected
        finally:
            await alarm(f'"{rabbitmq.memory}"')
        await until(lambda: publisher.accepting, 5)
        await publisher.publish(0, b"after")
        (delivery,) = await receive(subscriber, 1)
        assert delivery.body == b"after"

    async def test_an_alarm_is_known_before_the_first_message(self, rabbitmq: RabbitMQ, settings: Settings) -> None:
        evaluate = rabbitmq.evaluate
        set_watermark = "vm_memory_monitor:set_vm_memory_high_watermark({absolute, %s})"
        async with connected(settings):
            pass
        await asyncio.to_thread(evaluate, set_watermark % "1000")
        try:
            with capture_logs() as logs:
                publisher = RabbitPublisher(settings)
                await publisher.start()
                await until(lambda: any(entry["event"] == "broker_blocks" for entry in logs))
                assert not publisher.accepting
        finally:
            await asyncio.to_thread(evaluate, set_watermark % f'"{rabbitmq.memory}"')
        await until(lambda: publisher.accepting, 5)
        await publisher.publish(0, b"x")
        await publisher.close()

    async def test_a_missing_queue_fails_the_message_and_is_made_again(self, settings: Settings, pair: Pair) -> None:
        publisher, subscriber = pair
        await subscriber.hold({0: 5, 1: 5})
        await delete_queue(settings, "tracker.ingest.1")
        failures = 0
        async with asyncio.timeout(PATIENT):
            while True:
                try:
                    await publisher.publish(1, b"x")
                    break
                except (BrokerUnavailable, QueueFull):
                    failures += 1
                    await asyncio.sleep(0.01)
        assert failures
        (delivery,) = await receive(subscriber, 1)
        assert (delivery.partition, delivery.body) == (1, b"x")
        await publisher.publish(0, b"neighbour")
        assert (await receive(subscriber, 1))[0].body == b"neighbour"

    async def test_a_missing_queue_without_a_subscriber(self, settings: Settings) -> None:
        publisher = RabbitPublisher(settings)
        await publisher.start()
        await until(lambda: publisher.accepting)
        await delete_queue(settings, "tracker.ingest.0")
        results = await asyncio.gather(publisher.publish(0, b"0"), publisher.publish(1, b"1"), return_exceptions=True)
        assert isinstance(results[0], BrokerUnavailable)
        assert "unroutable: queue missing" in str(results[0])
        assert results[1] == ()

        async def works() -> bool:
            # Refused as by a full queue while the new one is just being made.
            with contextlib.suppress(BrokerUnavailable, QueueFull):
                return not await publisher.publish(0, b"2")
            return False

        await eventually(works)
        await publisher.close()

    async def test_a_full_dead_letter_queue(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(topology, "DEAD_MAX_MESSAGES", 3)
        async with connected(settings) as (publisher, subscriber):
            await subscriber.hold({0: 1})
            await publisher.publish(0, b"x")
            (delivery,) = await receive(subscriber, 1)
            letters = [(index, DeadLetter(b"x", 0, "why")) for index in range(50)]

            async def bury_many() -> None:
                # The broker lets more in than the limit says, until its queue has told the channel.
                for _ in range(20):
                    await subscriber.bury(delivery, letters)

            with pytest.raises(QueueFull):
                await bury_many()
            with pytest.raises(QueueFull):
                await subscriber.bury(delivery, letters[:1])

    async def test_a_queue_with_other_arguments_is_used_and_the_difference_named(self, settings: Settings) -> None:
        async with connected(settings):
            pass
        changed = settings.model_copy(update={"queue_max_messages": 7})
        with capture_logs() as logs:
            async with connected(changed) as (publisher, subscriber):
                await subscriber.hold({0: 10})
                await asyncio.gather(*(publisher.publish(0, b"x") for _ in range(9)))
                assert len(await receive(subscriber, 9)) == 9
        differences = [entry for entry in logs if entry["event"] == "queue_differs"]
        # Both sides say so.
        assert sorted(entry["queue"] for entry in differences) == sorted(["tracker.ingest.0", "tracker.ingest.1"] * 2)
        assert {entry["argument"] for entry in differences} == {"x-max-length"}
        assert all("'7'" in entry["wanted"] and "'1000000'" in entry["present"] for entry in differences)

    async def test_both_sides_may_make_the_queues_at_the_same_time(self, settings: Settings) -> None:
        publishers = [RabbitPublisher(settings) for _ in range(4)]
        for publisher in publishers:
            await publisher.start()
        await until(lambda: all(publisher.accepting for publisher in publishers))
        await asyncio.gather(*(publisher.publish(0, b"x") for publisher in publishers))
        for publisher in publishers:
            await publisher.close()
