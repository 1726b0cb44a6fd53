"""When the consumer flushes: how long what arrived waits for more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.scripted import (
    FaultyStore,
    ScriptedSubscriber,
    faulty_store,
    running,
    until,
)
from tests.unit.test_batch import good_write
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server.consumer import consumer as consumer_module

_VERY_LONG = 30.0
"""Seconds; longer than a test waits."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FaultyStore]:
    """An empty store."""
    with faulty_store(tmp_path) as opened:
        yield opened


async def test_a_flush_takes_all_callers_that_the_last_one_answered(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "_PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(consumer_module, "_PATIENCE_SHARE", 1e9)
    sizes: list[int] = []
    store.fault = lambda batch: sizes.append(len(batch))
    subscriber = ScriptedSubscriber()
    async with running(subscriber, store, seconds=0) as consumer:
        subscriber.put(*(good_write(sequence) for sequence in range(1, 5)))
        await until(lambda: subscriber.acked == 1 and consumer._flushing is None)
        subscriber.put(good_write(5))
        await until(lambda: not subscriber.arrived)
        subscriber.put(*(good_write(sequence) for sequence in range(6, 9)))
        await until(lambda: consumer.flusher.points == 8)
    assert sizes == [4, 4]


async def test_callers_that_do_not_come_again_are_not_waited_for(store: FaultyStore) -> None:
    sizes: list[int] = []
    store.fault = lambda batch: sizes.append(len(batch))
    subscriber = ScriptedSubscriber()
    async with running(subscriber, store, seconds=0) as consumer:
        subscriber.put(*(good_write(sequence) for sequence in range(1, 5)))
        await until(lambda: subscriber.acked == 1)
        subscriber.put(good_write(5))
        await until(lambda: consumer.flusher.points == 5)
    assert sizes == [4, 1]


async def test_a_point_does_not_wait_because_a_sign_of_life_was_flushed_just_now(store: FaultyStore) -> None:
    subscriber = ScriptedSubscriber()
    async with running(subscriber, store, seconds=_VERY_LONG) as consumer:
        subscriber.put(_heartbeat())
        await until(lambda: subscriber.acked == 1 and consumer._flushing is None)
        subscriber.put(good_write(1))
        await until(lambda: consumer.flusher.points == 1)


async def test_signs_of_life_are_gathered_and_a_point_takes_them_along(store: FaultyStore) -> None:
    sizes: list[int] = []
    store.fault = lambda batch: sizes.append(len(batch))
    subscriber = ScriptedSubscriber()
    async with running(subscriber, store, seconds=_VERY_LONG) as consumer:
        subscriber.put(_heartbeat())
        await until(lambda: subscriber.acked == 1 and consumer._flushing is None)
        subscriber.put(_heartbeat())
        subscriber.put(_heartbeat())
        await until(lambda: not subscriber.arrived)
        subscriber.put(good_write(1))
        await until(lambda: consumer.flusher.points == 1)
    assert sizes == [1, 3]


async def test_points_that_follow_a_point_are_gathered(store: FaultyStore) -> None:
    sizes: list[int] = []
    store.fault = lambda batch: sizes.append(len(batch))
    subscriber = ScriptedSubscriber()
    async with running(subscriber, store, seconds=_VERY_LONG) as consumer:
        subscriber.put(good_write(1))
        await until(lambda: subscriber.acked == 1 and consumer._flushing is None)
        subscriber.put(good_write(2))
        await until(lambda: not subscriber.arrived)
        subscriber.put(good_write(3))
        await until(lambda: not subscriber.arrived)
    assert sizes == [1, 2]


def _heartbeat() -> internal.Write:
    return internal.Write(
        kind=internal.WRITE_KIND_HEARTBEAT,
        scope_id="run",
        accepted_at_unix_ms=time.time_ns() // 1_000_000,
        payload=public.HeartbeatRequest(run_id="run").SerializeToString(),
    )
