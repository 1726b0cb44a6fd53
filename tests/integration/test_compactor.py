"""Which runs the consumer compacts and when: beside its flushes, those of its partitions, and what others left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.contract.small_chunks import chunk_counts
from tests.contract.store_databases import sqlite_store
from tests.contract.store_writes import RUN, complete, points, write
from tests.integration.scripted import ScriptedSubscriber, running, until
from tests.unit.test_batch import good_write
from tracker_server.consumer import compactor
from tracker_server.consumer.compactor import Compactor
from tracker_server.errors import StoreUnavailable
from tracker_server.model.writes import Write
from tracker_server.store.compaction import CROWD, Compacted
from tracker_server.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with sqlite_store(tmp_path) as store:
        yield store


@asynccontextmanager
async def at_work(store: Store, holds: Callable[[str], bool] = lambda _run: True) -> AsyncIterator[Compactor]:
    """A compactor at work beside nothing."""
    made = Compactor(store, holds=holds, busy=lambda: False)
    task = asyncio.create_task(made.keep())
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await made.close()


def single_points(total: int, run: str = RUN) -> list[Write]:
    """Writes of one point each."""
    return [write(sequence, points([sequence], [0.5]), run=run) for sequence in range(1, total + 1)]


def log(store: Store, writes: list[Write], noticed_by: Compactor | None = None) -> None:
    """A flush for each."""
    for one in writes:
        store.flush([one])
        if noticed_by is not None:
            noticed_by.flushed([one])


def tail(store: Store, run: str = RUN) -> list[int]:
    """Points of the small chunks."""
    return chunk_counts(store, "chunk_tail", run)


async def test_a_run_that_ended_is_merged_whole_and_one_that_goes_on_is_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor, "_ENDED_SECONDS", 0.05)
    async with at_work(store) as made:
        log(store, single_points(5), made)
        log(store, [*single_points(5, "ended"), write(6, complete(), run="ended")], made)
        await until(lambda: tail(store, "ended") == [])
        assert chunk_counts(store, "chunks", "ended") == [5]
        assert tail(store) == [1] * 5


async def test_a_long_run_is_merged_along_the_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compactor, "_LOOK_SECONDS", 0.01)
    async with at_work(store) as made:
        log(store, single_points(CROWD), made)
        # Counted once the loop hears of the commit.
        await until(lambda: made.parts == CROWD)
        assert tail(store) == [CROWD]


async def test_a_run_that_fell_silent_is_merged_and_can_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compactor, "_QUIET_SECONDS", 0.05)
    monkeypatch.setattr(compactor, "_LOOK_SECONDS", 0.01)
    async with at_work(store) as made:
        log(store, single_points(5), made)
        await until(lambda: tail(store) == [5])
        log(store, single_points(8)[5:], made)
        await until(lambda: tail(store) == [8])


async def test_what_others_left_is_found_in_partitions_of_its_own_and_in_those_taken_over(store: Store) -> None:
    log(store, [*single_points(4, "a"), *single_points(4, "b"), write(5, complete(), run="a")])
    log(store, [*single_points(4, "c"), write(5, complete(), run="c")])
    own = {"a", "b"}
    async with at_work(store, lambda run: run in own) as made:
        await until(lambda: made.parts == 8)
        assert [tail(store, run) for run in "abc"] == [[], [4], [1] * 4]
        own.add("c")
        made.look_everywhere()
        await until(lambda: tail(store, "c") == [])


async def test_a_database_that_is_away_is_asked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compactor, "_UNAVAILABLE_SECONDS", 0.01)
    log(store, [*single_points(4), write(5, complete())])
    compact, failures = store.compact, [StoreUnavailable("away"), StoreUnavailable("away")]

    def fails_twice(run_id: str, **how: Any) -> Compacted:
        if failures:
            raise failures.pop()
        return compact(run_id, **how)

    monkeypatch.setattr(store, "compact", fails_twice)
    async with at_work(store):
        await until(lambda: tail(store) == [])


async def test_a_run_that_cannot_be_merged_does_not_stop_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(store, [*single_points(4, "a"), *single_points(4, "b")])
    compact = store.compact

    def refuses_one(run_id: str, **how: Any) -> Compacted:
        if run_id == "a":
            raise RuntimeError
        return compact(run_id, **how)

    monkeypatch.setattr(store, "compact", refuses_one)
    async with at_work(store):
        await until(lambda: tail(store, "b") == [4])
    assert tail(store, "a") == [1] * 4


async def test_a_consumer_compacts_what_it_flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compactor, "_QUIET_SECONDS", 0.1)
    monkeypatch.setattr(compactor, "_LOOK_SECONDS", 0.01)
    subscriber = ScriptedSubscriber()
    with sqlite_store(tmp_path) as store:
        async with running(subscriber, store):
            for sequence in range(1, 21):
                subscriber.put(good_write(sequence))
            await until(lambda: subscriber.acked == 20)
            await until(lambda: tail(store, "run") == [20])
