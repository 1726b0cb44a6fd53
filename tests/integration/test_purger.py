"""What a consumer purges and when: what has been deleted long enough, of its partitions, beside its flushes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.contract.store_databases import sqlite_store
from tests.contract.store_deleting import delete_experiment, delete_run, fill, listed, undelete_run
from tests.contract.store_purging import left_of, purge
from tests.contract.store_retention import ended
from tests.contract.store_state import read_run
from tests.contract.store_writes import RUN, T, complete, points, start, update_experiment, write
from tests.integration.scripted import ScriptedSubscriber, until
from tests.unit.test_batch import good_write
from tracker_server.cache.memory import MemoryCache
from tracker_server.consumer import flusher
from tracker_server.consumer.announcer import Announcer
from tracker_server.consumer.batch import BatchLimits
from tracker_server.consumer.consumer import Consumer
from tracker_server.consumer.purger import Purger, Swept
from tracker_server.errors import StoreUnavailable
from tracker_server.invalidation import Invalidator
from tracker_server.model.typed_json import Json
from tracker_server.notices import MemoryChanges
from tracker_server.partitions import partition_of
from tracker_server.scopes import experiment_scope
from tracker_server.store.assignment import WholeAssignment
from tracker_server.store.purging import Place, Removed
from tracker_server.store.store import Store, now_ms


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with sqlite_store(tmp_path) as store:
        yield store


@asynccontextmanager
async def purger_of(
    store: Store,
    holds: Callable[[str], bool] = lambda _: True,
    cache: MemoryCache | None = None,
    announced: dict[int, int] | None = None,
) -> AsyncIterator[Purger]:
    """A purger, not yet at work."""
    invalidator = Invalidator(cache or MemoryCache(), interval_seconds=0.0)
    made = Purger(
        store, invalidator, announced.update if announced is not None else lambda _: None, holds, lambda: False
    )
    try:
        yield made
    finally:
        await made.close()
        await invalidator.close()


def keep_for(store: Store, *, delete: int = 0, drop: int = 0) -> None:
    """Retention of experiment e."""
    days: dict[str, Json] = {"delete_runs_after_days": delete, "drop_points_after_days": drop}
    store.flush([write(1, update_experiment(T, {"retention": days}), run="e")])


async def test_what_was_deleted_long_enough_ago_goes_and_nothing_else(store: Store) -> None:
    fill(store)
    store.flush([write(1, start("e"), run="new"), delete_run(1), delete_run(1, run="new", at=now_ms())])
    async with purger_of(store) as made:
        assert await made.sweep() == Swept(runs=1, points=2)
        assert (left_of(store), left_of(store, "new") != {}) == ({}, True)
        store.flush([undelete_run(2, run="new", at=now_ms() + 1)])
        assert read_run(store, "new") is not None
        assert await made.sweep() == Swept()


async def test_a_deleted_experiment_goes_with_its_runs(store: Store) -> None:
    fill(store)
    store.flush([delete_experiment(1)])
    async with purger_of(store) as made:
        assert await made.sweep() == Swept(runs=2, points=4, experiments=1)
    assert store.list_experiments(None, 10, show_deleted=True) == []


async def test_a_consumer_purges_in_partitions_of_its_own_only(store: Store) -> None:
    fill(store)
    store.flush([delete_experiment(1)])
    own = {"other"}
    async with purger_of(store, lambda name: name in own) as made:
        assert await made.sweep() == Swept(runs=1, points=2)
        assert left_of(store) != {}
        own |= {RUN, "e"}
        assert await made.sweep() == Swept(runs=1, points=2, experiments=1)


async def test_retention_deletes_what_ended_and_tells_the_cache(store: Store) -> None:
    ended(store)
    ended(store, "new", at=now_ms())
    keep_for(store, delete=30)
    cache = MemoryCache()
    before = await cache.read(experiment_scope("e"), "summary")
    announced: dict[int, int] = {}
    async with purger_of(store, cache=cache, announced=announced) as made:
        assert await made.sweep() == Swept(deleted=1)
        assert listed(store) == ["new"]
        assert (await cache.read(experiment_scope("e"), "summary")).generation != before.generation
        assert announced == {partition_of(RUN, store.partitions): 2}
        assert await made.sweep() == Swept()


async def test_retention_drops_points_after_stale_totals_are_made_anew(store: Store) -> None:
    for attempt, first in ((1, 0), (2, 5)):
        batch = points(range(first, 10), [float(attempt)] * (10 - first))
        store.flush([write(attempt + 10, batch, attempt=attempt)])
    ended(store)
    assert store.stale_runs(10) == [RUN]
    store.flush([write(90, complete(), attempt=2)])
    keep_for(store, drop=7)
    count = store.read_run(RUN, "", 1).metrics[0].totals.count
    async with purger_of(store) as made:
        assert await made.sweep() == Swept(points=18, thinned=1)
        assert store.read_run(RUN, "", 1).metrics[0].totals.count == count
        assert await made.sweep() == Swept()


async def test_a_run_whose_chunks_are_being_merged_is_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    store.flush([delete_run(1)])
    remove, taken = store.purging.remove, [None, None]

    def held_twice(run_id: str, place: Place) -> Removed | None:
        return taken.pop() if taken else remove(run_id, place)

    monkeypatch.setattr(store.purging, "remove", held_twice)
    async with purger_of(store) as made:
        assert await made.sweep() == Swept(runs=1, points=2)


async def test_a_run_that_cannot_be_purged_does_not_stop_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    store.flush([delete_run(1), delete_run(1, run="other")])
    begin = store.purging.begin

    def refuses_one(run_id: str, before_ms: int) -> bool:
        if run_id == "other":
            raise RuntimeError
        return begin(run_id, before_ms)

    monkeypatch.setattr(store.purging, "begin", refuses_one)
    async with purger_of(store) as made:
        with capture_logs() as logs:
            assert (await made.sweep()).runs == 1
    assert [entry["of"] for entry in logs if entry["event"] == "cannot be purged"] == ["other"]


async def test_a_database_that_is_away_is_asked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    store.flush([delete_run(1)])
    rules, failures = store.retention.rules, [StoreUnavailable("away"), RuntimeError("odd")]

    def fails_twice() -> Any:
        if failures:
            raise failures.pop()
        return rules()

    monkeypatch.setattr(store.retention, "rules", fails_twice)
    async with purger_of(store) as made:
        task = asyncio.create_task(made.keep(0.01))
        await until(lambda: left_of(store) == {})
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_consumer_purges_beside_its_flushes_and_drops_what_comes_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flusher, "_DROPPED_LOG_SECONDS", 3600.0)
    subscriber = ScriptedSubscriber()
    with sqlite_store(tmp_path) as store:
        fill(store)
        store.flush([delete_run(1, run="other")])
        made = Consumer(
            subscriber,
            store,
            WholeAssignment(store.partitions),
            Invalidator(MemoryCache()),
            Announcer(store, MemoryChanges(), None),
            BatchLimits(points=1_000, size=1_000_000, seconds=0.05),
            interval_seconds=0.05,
            dead_limit=True,
            compaction=False,
            purge_seconds=0.01,
        )
        task = asyncio.create_task(made.run(5.0))
        try:
            await until(lambda: left_of(store, "other") == {})
            store.flush([delete_run(1)])
            assert purge(store) or left_of(store) == {}
            with capture_logs() as logs:
                for sequence in range(1, 21):
                    subscriber.put(good_write(sequence))
                await until(lambda: subscriber.acked == 20)
        finally:
            made.stop()
            await task
        assert (made.flusher.dropped, made.flusher.points, subscriber.buried) == (20, 0, [])
        dropped = [entry for entry in logs if entry["event"] == "writes to purged runs dropped"]
        assert len(dropped) == 1
        assert left_of(store) == {}
