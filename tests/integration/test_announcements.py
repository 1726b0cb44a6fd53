"""Notices and events on a real RabbitMQ."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.contract.broker_contract import until
from tests.integration.rabbit_harness import channel_of, settings_for
from tracker_server.broker.announcements import RabbitAnnouncements
from tracker_server.broker.change_feed import MAX_NOTICES, RabbitChangeFeed
from tracker_server.broker.topology import CHANGES, EVENTS
from tracker_server.errors import BrokerUnavailable
from tracker_server.ports import Event, Revisions

EVENT = Event("id-1", "run.completed.e", b'{"event":"run.completed"}')


@asynccontextmanager
async def announcing(url: str) -> AsyncIterator[RabbitAnnouncements]:
    """The consumer's side, connected."""
    made = RabbitAnnouncements(settings_for(url))
    await made.start()
    try:
        await until(lambda: made.connected)
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[list[Revisions]]:
    """A server's side, connected, and what it has heard."""
    heard: list[Revisions] = []
    feed = RabbitChangeFeed(settings_for(url))
    await feed.start(heard.append)
    try:
        await until(lambda: feed.connected)
        yield heard
    finally:
        await feed.close()


@asynccontextmanager
async def bound_to_events(url: str, key: str) -> AsyncIterator[list[tuple[Any, bytes]]]:
    """Another service's queue, and what has come to it."""
    came: list[tuple[Any, bytes]] = []
    async with channel_of(settings_for(url)) as channel:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        channel.raw.queue_declare("run_events", durable=True, callback=answer.set_result)
        await answer
        answer = asyncio.get_running_loop().create_future()
        channel.raw.queue_bind("run_events", EVENTS, key, callback=answer.set_result)
        await answer
        await channel.consume(
            "run_events", "test", 100, lambda _c, method, given, body: came.append(((method, given), body))
        )
        yield came


async def test_every_server_hears_every_notice(amqp_url: str) -> None:
    async with listening(amqp_url) as one, listening(amqp_url) as two, announcing(amqp_url) as announcements:
        announcements.send({3: 41, 5: 7})
        await until(lambda: one and two)
        assert one == two == [{3: 41, 5: 7}]


async def test_a_server_that_does_not_read_forgets_the_oldest_notices(amqp_url: str) -> None:
    async with announcing(amqp_url) as announcements, channel_of(settings_for(amqp_url)) as channel:
        declared: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        arguments = {"x-max-length": MAX_NOTICES, "x-overflow": "drop-head"}
        channel.raw.queue_declare("", exclusive=True, arguments=arguments, callback=declared.set_result)
        queue = (await declared).method.queue
        for exchange, key in ((CHANGES, ""), (EVENTS, "#")):
            bound: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            channel.raw.queue_bind(queue, exchange, key, callback=bound.set_result)
            await bound
        for revision in range(MAX_NOTICES + 50):
            announcements.send({0: revision})
        # Its confirm says that the queue has it, and so all that was sent before it.
        await announcements.publish([EVENT])
        assert await channel.count(queue) == MAX_NOTICES


async def test_what_is_no_notice_is_passed_over(amqp_url: str) -> None:
    async with listening(amqp_url) as heard, announcing(amqp_url) as announcements:
        async with channel_of(settings_for(amqp_url)) as channel:
            channel.raw.basic_publish(CHANGES, "", b"\xff\xff nonsense")
            announcements.send({1: 2})
            await until(lambda: heard)
        assert heard == [{1: 2}]


async def test_an_event_is_persistent_and_bears_its_id(amqp_url: str) -> None:
    async with announcing(amqp_url) as announcements, bound_to_events(amqp_url, "run.completed.#") as came:
        await announcements.publish([EVENT, Event("id-2", "run.completed.a.b", b"{}")])
        await until(lambda: len(came) == 2)
        ((method, properties), body), (other, _) = came
        assert (method.routing_key, properties.message_id, properties.delivery_mode) == ("run.completed.e", "id-1", 2)
        assert (properties.content_type, json.loads(body)) == ("application/json", {"event": "run.completed"})
        assert other[0].routing_key == "run.completed.a.b"


async def test_an_event_that_nobody_is_bound_for_is_no_error(amqp_url: str) -> None:
    async with announcing(amqp_url) as announcements:
        await announcements.publish([EVENT])


async def test_a_full_queue_of_another_service_loses_what_it_refuses_and_holds_up_nobody(
    amqp_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with announcing(amqp_url) as announcements, channel_of(settings_for(amqp_url)) as channel:
        await channel.declare("full", {"x-max-length": 1, "x-overflow": "reject-publish"})
        bound: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        channel.raw.queue_bind("full", EVENTS, "#", callback=bound.set_result)
        await bound
        async with bound_to_events(amqp_url, "#") as came:
            for number in range(4):
                await announcements.publish([Event(f"id-{number}", "run.completed.e", b"{}")])
            await until(lambda: len(came) == 4)
    assert "events_refused" in capsys.readouterr().out


async def test_without_a_broker_notices_are_lost_and_events_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker_server.broker.announcements.WAIT_SECONDS", 0.05)
    announcements = RabbitAnnouncements(settings_for("amqp://127.0.0.1:1"))
    await announcements.start()
    announcements.send({0: 1})
    with pytest.raises(BrokerUnavailable):
        await announcements.publish([EVENT])
    await announcements.close()


async def test_an_exchange_of_another_kind_is_used_as_it_is(amqp_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with channel_of(settings_for(amqp_url)) as channel:
        await channel.declare_exchange(EVENTS, "fanout", durable=True)
    async with announcing(amqp_url) as announcements:
        await announcements.publish([EVENT])
    assert "tracker.events" in capsys.readouterr().out
