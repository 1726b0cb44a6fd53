"""Whatever is written, and however a watcher reads: the last that it was given of each run is the run as it is."""

import dataclasses
import itertools
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.servers import PostgreSQL
from tests.contract.store_databases import migrated_url, postgres_store, settings_for, sqlite_store
from tests.contract.store_deleting import delete_experiment, undelete_experiment
from tests.contract.store_strategies import RUNS, SERVERS_OWN, histories, renamed
from tests.contract.store_writes import T, points, start, write
from tests.contract.watcher import EVERYTHING, StoreWatcher, Telling, state_in
from tracker_server.errors import RunNotFound
from tracker_server.model.writes import UpdateExperiment, Write
from tracker_server.store.store import Store, open_store

_numbers = itertools.count()
_thorough = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
_brief = settings(_thorough, max_examples=12)
_PAGES = (1, 1, 2, 3, 100)
COPIES = 4
"""Of the runs of a history, so that several share a partition and a page."""


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with sqlite_store(tmp_path_factory.mktemp("changes"), synced=False) as store:
        yield store


@pytest.fixture(scope="module")
def postgres(postgresql: PostgreSQL) -> Iterator[Store]:
    with postgres_store(postgresql) as store:
        yield store


def check(store: Store, history: list[Write], seed: int) -> None:
    """Delivers the writes in any order and in any flushes, while watchers of all kinds come, read, and reconnect."""
    source = random.Random(seed)
    name = f"{next(_numbers)}-"
    writes = [renamed(one, f"{name}{copy}-") for one in history for copy in range(COPIES)]
    experiment = f"{name}0-e0"
    chosen = tuple(f"{name}{copy}-{run}" for copy in range(2) for run in RUNS)
    queries = {
        "all": EVERYTHING,
        "runs": dataclasses.replace(EVERYTHING, run_ids=chosen),
        "experiment": dataclasses.replace(EVERYTHING, experiment_id=experiment),
    }
    watchers = {kind: StoreWatcher.from_now(store, query) for kind, query in queries.items()}
    hidden: dict[str, set[str]] = {kind: set() for kind in watchers}
    """By watcher: the runs that were deleted, by themselves or with their experiment, when it came."""
    runs = sorted({one.scope_id for one in writes if not isinstance(one.body, UpdateExperiment)})
    order = [*writes, *source.sample(writes, len(writes) // 3)]
    source.shuffle(order)
    telling = Telling(store)
    while order:
        size = source.choice([1, 3, 10, 40])
        batch, order = order[:size], order[size:]
        for run in sorted(store.flush(batch).stale):
            if source.random() < 0.5:
                store.refresh_totals(run)
        telling.flushed(batch)
        if source.random() < 0.6:
            telling.page = source.choice(_PAGES)
            telling.advance()
        if source.random() < 0.1:
            late = StoreWatcher.with_snapshot(store, source.choice(list(queries.values())))
            kind = f"late {len(watchers)}"
            watchers[kind] = late
            hidden[kind] = {run for run in runs if is_hidden(store, run)}
        for watcher in watchers.values():
            if source.random() < 0.6:
                watcher.page = source.choice(_PAGES)
                watcher.read()
            if source.random() < 0.2:
                watcher.reconnect()
    while telling.advance():
        pass
    states = {run: state_in(store, run) for run in runs}
    inside = {run for run, state in states.items() if state["run"]["experiment_id"] == experiment}
    visible = {run for run in runs if not is_hidden(store, run)}
    for kind, watcher in watchers.items():
        watcher.page = 100
        watcher.catch_up()
        watcher.check_order()
        # From a snapshot on, one meets the runs of earlier examples, too.
        latest = {run: state for run, state in watcher.latest().items() if run.startswith(name)}
        # A snapshot leaves out what is deleted by then, and nobody needs to hear of that until it changes.
        told = set(runs) - hidden[kind] | visible
        if watcher.query.experiment_id:
            gone = {run for run, state in latest.items() if state["run"]["experiment_id"] != experiment}
            assert not gone & inside, kind
            assert inside & told <= latest.keys(), kind
            latest = {run: state for run, state in latest.items() if run not in gone}
        assert latest == {run: states[run] for run in latest}, kind
        if watcher.query.experiment_id:
            assert latest.keys() <= inside, kind
            continue
        asked = set(runs) & set(chosen) if watcher.query.run_ids else set(runs)
        assert latest.keys() <= asked, kind
        assert told & asked <= latest.keys(), kind


def is_hidden(store: Store, run: str) -> bool:
    """Whether a run is there and deleted, by itself or with its experiment."""
    return is_there(store, run, show_deleted=True) and not is_there(store, run)


def is_there(store: Store, run: str, *, show_deleted: bool = False) -> bool:
    """Whether a run is found."""
    try:
        store.read_run(run, "", 1, show_deleted=show_deleted)
    except RunNotFound:
        return False
    return True


@_thorough
@given(histories(), st.integers(0, 2**32))
def test_sqlite_gives_every_watcher_the_runs_as_they_are(sqlite: Store, history: list[Write], seed: int) -> None:
    check(sqlite, history, seed)


@_brief
@given(histories(), st.integers(0, 2**32))
def test_postgresql_gives_every_watcher_the_runs_as_they_are(postgres: Store, history: list[Write], seed: int) -> None:
    check(postgres, history, seed)


WRITERS, FLUSHES, ROUND = 3, 40, 12


def test_a_watcher_beside_several_consumers_misses_nothing(postgresql: PostgreSQL) -> None:
    """Three consumers flush to the same partitions at the same time, their commits in any order, and one of them deletes
    and restores the experiment; the watchers read all the while, one of them with a new connection for each page."""
    url = migrated_url(postgresql)
    name = f"{next(_numbers)}-beside-"
    consumers = [open_store(settings_for(url), f"consumer {number}") for number in range(WRITERS)]
    reader = open_store(settings_for(url), "server")
    experiment = f"{name}e"
    consumers[0].flush([write(1, start(experiment), run=f"{name}{run}", writer=SERVERS_OWN) for run in range(30)])
    done = threading.Event()

    def consume(number: int) -> None:
        source = random.Random(number)
        for turn in range(1, FLUSHES + 1):
            runs = source.sample(range(30), ROUND)
            body = points([turn], [float(turn)])
            writer = f"writer-000000000-{number}"
            writes = [write(turn, body, run=f"{name}{run}", writer=writer) for run in sorted(runs)]
            if number == 0 and turn % 8 == 0:
                change = delete_experiment if turn % 16 else undelete_experiment
                writes.append(change(turn, experiment, at=T + turn))
            consumers[number].flush(writes)
            telling = Telling(consumers[number], page=7)
            telling.flushed(writes)
            while telling.advance():
                pass

    def watch(watcher: StoreWatcher, *, anew: bool) -> None:
        while not done.is_set():
            watcher.read()
            if anew:
                watcher.reconnect()
        watcher.catch_up()

    try:
        steady, hasty = (StoreWatcher.from_now(reader, page=page) for page in (100, 5))
        watching = [
            threading.Thread(target=watch, args=[steady], kwargs={"anew": False}),
            threading.Thread(target=watch, args=[hasty], kwargs={"anew": True}),
        ]
        consuming = [threading.Thread(target=consume, args=[number]) for number in range(WRITERS)]
        for thread in (*watching, *consuming):
            thread.start()
        for thread in consuming:
            thread.join()
        done.set()
        for thread in watching:
            thread.join()
        states = {f"{name}{run}": state_in(reader, f"{name}{run}") for run in range(30)}
        for watcher in (steady, hasty):
            watcher.check_order()
            assert watcher.latest() == states
            assert len(watcher.given) > len(states), "it was given changes on the way"
    finally:
        for store in (*consumers, reader):
            store.close()


def test_what_a_watcher_reads_is_never_beyond_what_it_was_given(tmp_path: Path) -> None:
    """The check above would see a gap: one that skips a revision does not get the run's last state."""
    with sqlite_store(tmp_path) as store:
        watcher = StoreWatcher.from_now(store)
        store.flush([write(1, points([1], [1.0]))])
        skipping = dataclasses.replace(watcher.cursor, revisions=store.revisions())
        watcher.cursor = skipping
        assert watcher.catch_up() == []
        assert watcher.latest() == {}
