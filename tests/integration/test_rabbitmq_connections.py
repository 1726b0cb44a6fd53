"""Connections to RabbitMQ that fail, in every step and at any moment."""

import asyncio
import random
import socket
import time
from typing import Any

import psutil
import pytest
from pika import frame
from structlog.testing import capture_logs

from deploy.servers.ports import free_port
from tests.contract.broker_contract import PATIENT, until
from tests.integration.amqp_proxy import Proxy
from tests.integration.rabbit_harness import connected, settings_for
from tests.turns import at_once
from tracker_server.broker import amqp
from tracker_server.broker.publisher import RabbitPublisher
from tracker_server.broker.subscriber import RabbitSubscriber
from tracker_server.config import Settings
from tracker_server.errors import BadSetting, BrokerUnavailable


@pytest.fixture
def settings(amqp_url: str) -> Settings:
    """Two partitions on an empty virtual host."""
    return settings_for(amqp_url)


def open_sockets(port: int) -> int:
    """How many of this process's sockets are connected, or connecting, to a port."""
    return sum(bool(one.raddr) and one.raddr.port == port for one in psutil.Process().net_connections("tcp"))


class TestConnections:
    """From the first attempt to the close."""

    async def test_nobody_listening_fails_at_once_and_is_logged_once(self) -> None:
        with capture_logs() as logs:
            publisher = RabbitPublisher(settings_for(f"amqp://guest:guest@127.0.0.1:{free_port()}/"))
            await publisher.start()
            began = time.monotonic()
            while time.monotonic() - began < 1.5:
                with pytest.raises(BrokerUnavailable):
                    await publisher.publish(0, b"x")
                await asyncio.sleep(0.01)
            await publisher.close()
        assert [entry["event"] for entry in logs] == ["broker_connect_failed"]
        assert "refused" in logs[0]["cause"] or "Connect call failed" in logs[0]["cause"]

    @pytest.mark.parametrize("size", [0, 1_000, 65_536, 131_064, 131_065, 400_000, 1_048_576])
    async def test_a_heartbeat_may_follow_a_message_in_the_same_turn_of_the_loop(
        self, settings: Settings, size: int
    ) -> None:
        """pika's timer sends one whenever it is due, maybe between a message and the turn in which its rest is written."""
        body = random.Random(size).randbytes(size)
        async with connected(settings) as (publisher, subscriber):
            await subscriber.hold({0: 10})
            channel = publisher._sender._usable()._channel
            published = [asyncio.create_task(publisher.publish(0, body)) for _ in range(2)]
            asyncio.get_running_loop().call_soon(channel.raw.connection._send_frame, frame.Heartbeat())
            await asyncio.gather(*published)
            for _ in published:
                delivery = await subscriber.receive(PATIENT)
                assert delivery is not None
                assert delivery.body == body

    async def test_a_broker_that_accepts_and_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(amqp, "STEP_SECONDS", 0.2)
        connections = 0

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while await reader.read(1000):
                pass
            writer.close()

        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        settings = settings_for(f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        publisher, subscriber = RabbitPublisher(settings), RabbitSubscriber(settings)
        await publisher.start()
        await subscriber.start()
        await until(lambda: connections >= 5)
        with pytest.raises(BrokerUnavailable, match="no answer"):
            await at_once(publisher.publish(0, b"x"))
        await at_once(subscriber.hold({0: 1}))
        assert await at_once(subscriber.receive(0)) is None
        # The turns that pika takes; one that waited for the broker would need its answer, or a timer.
        await at_once(publisher.close(), turns=30)
        await at_once(subscriber.close(), turns=30)
        server.close()
        await server.wait_closed()

    @pytest.mark.parametrize("freeze", [False, True])
    async def test_a_connection_that_ends_in_any_step(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, freeze: bool
    ) -> None:
        monkeypatch.setattr(amqp, "STEP_SECONDS", 2.0)

        async def survive(after_bytes: int) -> None:
            async with Proxy(settings.broker_url, after_bytes, freeze=freeze) as proxy:
                publisher = RabbitPublisher(settings_for(proxy.url), 2.0)
                subscriber = RabbitSubscriber(settings_for(proxy.url), 2.0)
                await subscriber.hold({1: 1})
                await publisher.start()
                await subscriber.start()
                await until(lambda: proxy.ended >= 2 and publisher.accepting and subscriber.connected, 60)
                await publisher.publish(0, b"x")
                await publisher.close()
                await subscriber.close()

        # Once, so that the queues are there: their making is slow, and a frozen step would be due to that.
        async with connected(settings):
            pass
        await asyncio.gather(*(survive(after_bytes) for after_bytes in [0, 1, 300, *range(500, 720, 12)]))

    async def test_cancelled_in_any_turn_of_the_loop_it_leaves_no_socket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its address is found at once, so that the turns of the loop are the same each time."""
        connections = 0

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.read()
            writer.close()

        async def find(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]

        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", find)
        given = amqp.parameters(settings_for(f"amqp://guest:guest@127.0.0.1:{port}/"), "test")
        for turns in range(30):
            opening = asyncio.create_task(amqp.Connection.open(given))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait({opening})
            await asyncio.sleep(0.02)  # in which it could still connect, if something of it were left
            assert open_sockets(port) == 0, f"cancelled after {turns} turns"
        assert connections, "the last ones were connected"
        server.close()
        await server.wait_closed()

    async def test_a_close_that_is_cancelled_leaves_no_socket(self, settings: Settings) -> None:
        given = amqp.parameters(settings, "test")
        before = open_sockets(given.port)
        connection = await amqp.Connection.open(given)
        assert open_sockets(given.port) == before + 1
        connection.pause_reading()  # so that the broker's consent to the close is not read
        closing = asyncio.create_task(connection.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait({closing})
        assert closing.cancelled()
        for _ in range(3):  # the turns that pika takes
            await asyncio.sleep(0)
        assert open_sockets(given.port) == before

    @pytest.mark.parametrize("freeze", [False, True])
    async def test_close_at_any_moment(self, settings: Settings, freeze: bool) -> None:
        async def start_and_close(after_bytes: int) -> None:
            async with Proxy(settings.broker_url, after_bytes, freeze=freeze) as proxy:
                publisher, subscriber = (
                    RabbitPublisher(settings_for(proxy.url)),
                    RabbitSubscriber(settings_for(proxy.url)),
                )
                await publisher.start()
                await subscriber.start()
                await until(lambda: proxy.ended or publisher.accepting)
                await asyncio.sleep(after_bytes % 7 / 100)
                publishing = asyncio.create_task(publisher.publish(0, b"x"))
                holding = asyncio.create_task(subscriber.hold({0: 1}))
                receiving = asyncio.create_task(subscriber.receive(PATIENT))
                await asyncio.sleep(0)
                began = time.monotonic()
                await asyncio.gather(publisher.close(), subscriber.close())
                assert time.monotonic() - began < 5
                done, _ = await asyncio.wait([publishing, holding, receiving], timeout=PATIENT)
                assert len(done) == 3
                assert publishing.exception() is None or isinstance(publishing.exception(), BrokerUnavailable)

        await asyncio.gather(*(start_and_close(after_bytes) for after_bytes in [0, 5, *range(480, 900, 20)]))

    async def test_close_without_a_pause_after_start(self, settings: Settings) -> None:
        for turns in range(12):
            publisher = RabbitPublisher(settings)
            await publisher.start()
            for _ in range(turns):
                await asyncio.sleep(0)
            await publisher.close()

    @pytest.mark.parametrize("wrong", ["vhost", "login"])
    async def test_a_wrong_address_is_logged_once_and_named(self, settings: Settings, wrong: str) -> None:
        url = settings.broker_url
        url = url + "-absent" if wrong == "vhost" else url.replace("guest:guest", "guest:false")
        with capture_logs() as logs:
            publisher = RabbitPublisher(settings_for(url))
            await publisher.start()
            await until(lambda: logs)
            await asyncio.sleep(1.5)
            await publisher.close()
        assert len(logs) == 1
        assert {"vhost": "not found", "login": "ACCESS_REFUSED"}[wrong] in logs[0]["cause"]
        assert "false" not in str(logs)

    @pytest.mark.parametrize("url", ["amqp://h:port/", "amqp://u@h/", "amqp://h/?nonsense=1", "amqp://h/?heartbeat=x"])
    def test_a_url_that_cannot_be_read(self, url: str) -> None:
        with pytest.raises(BadSetting, match="TRACKER_BROKER_URL"):
            RabbitPublisher(settings_for(url))
