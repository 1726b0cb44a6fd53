"""Watchers of one server on a real store (SQLite): who is told what, when, and what it costs to be slow."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.contract.store_databases import settings_for
from tests.contract.store_writes import complete, points, start, write
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import RunStatus, RunUpdate
from tracker_server import limits
from tracker_server.errors import InvalidRequest, StoreUnavailable, TooManyWatchers
from tracker_server.model.watching import Cursor, WatchQuery
from tracker_server.notices import MemoryChanges
from tracker_server.store.change_reader import Add, Progress
from tracker_server.store.store import Store, open_store
from tracker_server.watching import Watching

PATIENT = 20.0


class CountingStore(Store):
    """A real store that counts the reads for watchers, and fails when the test says so."""

    reads = 0
    away = False

    def read_watched(self, query: WatchQuery, cursor: Cursor, add: Add) -> Progress:
        """Counts."""
        self.reads += 1
        if self.away:
            raise StoreUnavailable
        return super().read_watched(query, cursor, add)


class Server:
    """A server's watching, with the consumer in the test's hands."""

    def __init__(self, store: CountingStore, *, most: int = 10, look_seconds: float = 1_000) -> None:
        self.store = store
        self.changes = MemoryChanges()
        self.watching = Watching(store, self.changes, most=most, look_seconds=look_seconds)
        self.tells = True
        self._sequence = 0

    async def log(self, run: str = "run", step: int = 0) -> None:
        """Stores a point, and tells of it."""
        self._sequence += 1
        outcome = await asyncio.to_thread(self.store.flush, [write(self._sequence, points([step], [0.5]), run=run)])
        if self.tells:
            self.changes.send(outcome.revisions)


class Stream:
    """What a watcher got."""

    def __init__(self) -> None:
        self.answers: list[public.WatchRunsResponse] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.sending = 0

    @property
    def updates(self) -> list[RunUpdate]:
        """All of them."""
        return [update for answer in self.answers for update in answer.updates]

    async def send(self, answer: public.WatchRunsResponse) -> None:
        """As the transport: returns when the caller has taken it."""
        self.sending += 1
        await self.reading.wait()
        self.answers.append(answer)


async def until(condition: Callable[[], object]) -> None:
    """Awaits a condition."""
    async with asyncio.timeout(PATIENT):
        while not condition():  # noqa: ASYNC110  # conditions of objects that know no events
            await asyncio.sleep(0.005)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    opened = open_store(settings_for(f"sqlite:///{tmp_path}/tracker.db"), "test")
    opened.__class__ = CountingStore
    assert isinstance(opened, CountingStore)
    yield opened
    opened.close()


@pytest.fixture
async def server(store: CountingStore) -> AsyncIterator[Server]:
    made = Server(store)
    await made.watching.start()
    yield made
    await made.watching.close()


@asynccontextmanager
async def watching(server: Server, **request: object) -> AsyncIterator[Stream]:
    """A watcher that has had its first answer."""
    stream = Stream()
    asked = public.WatchRunsRequest(**request)  # type: ignore[arg-type]  # fields of the request
    task = asyncio.create_task(server.watching.watch(asked, stream.send))
    try:
        await until(lambda: stream.answers or task.done())
        if task.done():
            task.result()
        yield stream
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, InvalidRequest, StoreUnavailable, TooManyWatchers):
            await task


async def test_a_watcher_is_told_at_once_what_changed_and_what_it_has_seen(server: Server) -> None:
    async with watching(server) as stream:
        assert not stream.updates
        began = time.monotonic()
        await server.log(step=7)
        await until(lambda: stream.updates)
        assert time.monotonic() - began < 1
        (update,) = stream.updates
        assert (update.run.run_id, update.metrics[0].last.step) == ("run", 7)
    await server.log(step=8)
    async with watching(server, revision=stream.answers[-1].revision) as stream:
        assert [update.metrics[0].last.step for update in stream.updates] == [8]
        assert not stream.answers[-1].catching_up


async def test_without_a_notice_a_server_looks_for_itself(store: CountingStore) -> None:
    server = Server(store, look_seconds=0.05)
    server.tells = False
    await server.watching.start()
    async with watching(server) as stream:
        await server.log()
        await until(lambda: stream.updates)
    await server.watching.close()


async def test_a_slow_watcher_costs_nothing_and_gets_the_last_state(server: Server) -> None:
    async with watching(server) as stream:
        stream.reading.clear()
        await server.log(step=0)
        await until(lambda: stream.sending == 2)
        reads = server.store.reads
        for step in range(1, 100):
            await server.log(step=step)
        assert (stream.sending, server.store.reads) == (2, reads), "nothing is read for who does not take what was read"
        stream.reading.set()
        await until(lambda: stream.updates and stream.updates[-1].metrics[0].count == 100)
        assert len(stream.updates) == 2


async def test_changes_are_told_four_times_a_second_at_most(server: Server) -> None:
    async with watching(server) as stream:
        began = time.monotonic()
        while time.monotonic() - began < 1:
            await server.log()
        await until(lambda: stream.updates and stream.updates[-1].metrics[0].count > 10)
        assert len(stream.answers) <= 2 + (time.monotonic() - began) / limits.WATCH_PAUSE_SECONDS


async def test_a_stream_without_changes_shows_that_it_is_alive(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCH_ALIVE_SECONDS", 0.05)
    async with watching(server, run_ids=["other"]) as stream:
        await server.log()
        await until(lambda: len(stream.answers) > 2)
        first, *_, last = stream.answers
        assert not last.updates
        assert last.as_of.ToNanoseconds() > first.as_of.ToNanoseconds()
        assert last.revision != first.revision, "what does not concern it is passed, too"


async def test_a_snapshot_of_large_runs_comes_in_pages_of_a_bounded_size(server: Server) -> None:
    config = {f"key {number}": "x" * 1_000 for number in range(100)}
    begun = [write(1, start("e", config=config), run=f"run-{number}") for number in range(20)]
    await asyncio.to_thread(server.store.flush, begun)
    async with watching(server, snapshot=True) as stream:
        await until(lambda: not stream.answers[-1].catching_up)
        assert {update.run.run_id for update in stream.updates} == {one.scope_id for one in begun}
        assert len(stream.updates) == 20
        sizes = [answer.ByteSize() for answer in stream.answers]
        assert max(sizes) < limits.MAX_WATCH_BYTES + 110_000
        assert len(sizes) >= 4
        assert [answer.catching_up for answer in stream.answers] == [True] * (len(sizes) - 1) + [False]


async def test_a_snapshot_is_resumed_where_it_was_left(server: Server) -> None:
    await asyncio.to_thread(server.store.flush, [write(1, start("e"), run=f"run-{number:03}") for number in range(250)])
    revision = ""
    seen: list[str] = []
    pages = 0
    while True:
        pages += 1
        async with watching(server, snapshot=True, revision=revision) as stream:
            seen += [update.run.run_id for update in stream.answers[0].updates]
            revision = stream.answers[0].revision
            if not stream.answers[0].catching_up:
                break
    assert pages == 4
    assert sorted(seen) == [f"run-{number:03}" for number in range(250)]


async def test_while_the_database_is_away_a_stream_waits_and_goes_on(server: Server) -> None:
    async with watching(server) as stream:
        server.store.away = True
        await server.log(step=1)
        await until(lambda: server.store.reads >= 2)
        assert not stream.updates
        await server.log(step=2)
        server.store.away = False
        await until(lambda: stream.updates)
        assert stream.updates[-1].metrics[0].last.step == 2


async def test_a_stream_that_cannot_begin_says_so_at_once(server: Server) -> None:
    server.store.away = True
    with pytest.raises(StoreUnavailable):
        async with watching(server, snapshot=True):
            pass
    assert len(server.watching.watchers) == 0


async def test_there_are_no_more_watchers_than_allowed_and_who_goes_makes_room(store: CountingStore) -> None:
    server = Server(store, most=2)
    await server.watching.start()
    async with watching(server), watching(server):
        with pytest.raises(TooManyWatchers, match="TRACKER_MAX_WATCHERS") as caught:
            async with watching(server):
                pass
        assert caught.value.retry_after
    assert len(server.watching.watchers) == 0
    async with watching(server):
        assert len(server.watching.watchers) == 1
    await server.watching.close()


async def test_a_revision_of_another_database_is_refused(server: Server, tmp_path: Path) -> None:
    other = open_store(settings_for(f"sqlite:///{tmp_path}/other.db", partitions=4), "test")
    other.__class__ = CountingStore
    assert isinstance(other, CountingStore)
    elsewhere = Server(other)
    await elsewhere.watching.start()
    async with watching(elsewhere) as stream:
        revision = stream.answers[0].revision
    await elsewhere.watching.close()
    other.close()
    with pytest.raises(InvalidRequest) as caught:
        async with watching(server, revision=revision):
            pass
    assert [(v.field, "another database" in v.description) for v in caught.value.violations] == [("revision", True)]


async def test_an_end_is_given_with_its_final_metrics(server: Server) -> None:
    async with watching(server, experiment_id="e") as stream:
        outcome = await asyncio.to_thread(
            server.store.flush,
            [write(1, start("e")), write(2, dataclasses.replace(complete({"acc": 0.5}), reason="done"))],
        )
        server.changes.send(outcome.revisions)
        await until(lambda: stream.updates)
        (update,) = stream.updates
        assert (update.run.status, update.run.reason) == (RunStatus.RUN_STATUS_COMPLETED, "done")
        assert update.run.final_metrics == {"acc": 0.5}
        assert [(metric.name, metric.final_value) for metric in update.metrics] == [("acc", 0.5)]
