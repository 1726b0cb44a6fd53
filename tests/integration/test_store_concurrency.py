"""Two processes at one PostgreSQL: the same writes and overlapping ones at the same time, each exactly once."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.servers import PostgreSQL
from tests.contract.reference import expected_state
from tests.contract.store_databases import empty, migrated_url, settings_for
from tests.contract.store_state import read_state
from tests.contract.store_writes import T, block, complete, points, start, update_experiment, write
from tracker_server.model.writes import LogPoints, MapChange, Write
from tracker_server.store.run_list import RunQuery
from tracker_server.store.store import Store, open_store

RUNS = [f"run-{i}" for i in range(12)]
EXPERIMENTS = [f"experiment-{i}" for i in range(4)]


@pytest.fixture
def stores(postgresql: PostgreSQL) -> Iterator[list[Store]]:
    """Three processes' views of one empty database."""
    url = migrated_url(postgresql)
    opened = [open_store(settings_for(url), f"process {i}") for i in range(3)]
    empty(opened[0])
    yield opened
    for store in opened:
        store.close()


def some_writes(source: random.Random) -> list[Write]:
    """Numbered writes to many runs in all partitions, with experiments in common and attempts that supersede."""
    made = []
    for run in RUNS:
        for sequence in range(1, 9):
            steps = sorted(source.randint(0, 20) for _ in range(5))
            rows = [[source.random() for _ in steps] for _ in range(3)]
            body = LogPoints((block(["a", "b", "c"], steps, rows),))
            made.append(write(sequence, body, run=run, attempt=source.choice([0, 1, 1, 2])))
        made.append(write(9, start(source.choice(EXPERIMENTS), at=T + source.randint(0, 3)), run=run, attempt=1))
        made.append(write(10, complete({"a": 0.5}, experiment=source.choice(EXPERIMENTS)), run=run, attempt=1))
    for name in EXPERIMENTS:
        for sequence in range(1, 4):
            change = MapChange(set={f"k{sequence}": "v"})
            moment = T + source.randint(-9, 9)
            made.append(write(sequence, update_experiment(metadata=change), run=name, accepted=moment))
    return made


def flush_all(store: Store, batches: list[list[Write]]) -> int:
    """Flushes batches one after the other; returns how many writes were new. Nothing may be raised."""
    applied = 0
    for batch in batches:
        outcome = store.flush(batch)
        assert outcome.applied + outcome.duplicates == len(batch)
        applied += outcome.applied
        for run in outcome.stale:
            store.refresh_totals(run)
    return applied


def cut_up(writes: list[Write], source: random.Random) -> list[list[Write]]:
    """The writes in any order and in batches of any size."""
    order = source.sample(writes, len(writes))
    batches = []
    while order:
        size = source.choice([1, 5, 20, 60])
        batches.append(order[:size])
        order = order[size:]
    return batches


@pytest.mark.parametrize("seed", range(4))
def test_overlapping_batches_flushed_at_once_are_applied_exactly_once(stores: list[Store], seed: int) -> None:
    source = random.Random(seed)
    writes = some_writes(source)
    plans = [cut_up(writes, source) for _ in stores]
    with ThreadPoolExecutor(len(stores)) as pool:
        applied = sum(pool.map(flush_all, stores, plans))
    assert applied == len(writes)
    for run in stores[0].stale_runs(1000):
        stores[0].refresh_totals(run)
    assert read_state(stores[0], RUNS, EXPERIMENTS) == expected_state(writes, RUNS, EXPERIMENTS)


def test_the_same_batch_flushed_at_once_again_and_again_is_applied_exactly_once(stores: list[Store]) -> None:
    for sequence in range(1, 31):
        batch = [write(sequence, points([sequence], [0.5]), run=run) for run in RUNS[:4]]
        with ThreadPoolExecutor(len(stores)) as pool:
            outcomes = list(pool.map(lambda store, batch=batch: store.flush(batch), stores))
        assert sorted(outcome.applied for outcome in outcomes) == [0, 0, 4]
        assert sorted(outcome.points for outcome in outcomes) == [0, 0, 4]
    for run in RUNS[:4]:
        assert stores[0].read_run(run, "", 1).metrics[0].totals.count == 30


def test_an_experiment_first_named_by_all_at_once_is_made_once(stores: list[Store]) -> None:
    def name_it(number: int, store: Store) -> None:
        for i in range(20):
            moment = T + (i * 7 + number * 3) % 11
            body = start(f"shared-{i}", at=moment)
            change = update_experiment(moment, {"name": f"by {number}"})
            store.flush(
                [
                    write(1, body, run=f"r{number}-{i}", accepted=moment),
                    write(1, change, run=f"shared-{i}", writer=f"writer-of-process-{number}", accepted=moment),
                    write(1, start(f"shared-{19 - i}"), run=f"s{number}-{i}", accepted=moment),
                ]
            )

    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(name_it, range(len(stores)), stores))
    listed = stores[0].list_experiments(None, 100)
    assert {one.experiment_id: one.run_count for one in listed} == {f"shared-{i}": 6 for i in range(20)}


def test_readers_see_whole_flushes_only(stores: list[Store]) -> None:
    writer, reader = stores[0], stores[1]
    torn: list[object] = []

    def write_all() -> None:
        for sequence in range(1, 61):
            body = LogPoints((block(["a", "b"], [sequence, sequence], [[1.0, 2.0], [1.0, 2.0]]),))
            writer.flush([write(sequence, body)])

    def read(_: int) -> None:
        if not reader.find_runs(RunQuery(), None, 1)[0]:
            return
        details = reader.read_run("run", "", 10)
        counts = {metric.totals.count for metric in details.metrics}
        (last,) = {metric.totals.last and metric.totals.last.step for metric in details.metrics}
        if counts != {2 * (last or 0)} or len(details.writers[0].applied) != last:
            torn.append((counts, last))

    with ThreadPoolExecutor(2) as pool:
        done = pool.submit(write_all)
        while not done.done():
            pool.submit(read, 0).result()
        done.result()
    assert torn == []


def test_processes_that_take_turns_see_each_others_rows(stores: list[Store]) -> None:
    """Each remembers the rows that it wrote; the other has changed them since, and once they were deleted."""
    sent: list[Write] = []
    for sequence in range(1, 31):
        if sequence == 16:
            empty(stores[0])
            sent = []
        rows = [[float(sequence)], [-float(sequence)]]
        one = write(sequence, LogPoints((block(["a", "b"], [sequence], rows),)), run="turns")
        outcome = stores[(sequence // 2) % 3].flush([one])
        assert (outcome.applied, outcome.points) == (1, 2)
        sent.append(one)
    assert read_state(stores[0], ["turns"], []) == expected_state(sent, ["turns"], [])


def test_a_process_that_takes_a_run_over_again_takes_away_the_final_values_that_another_one_has_set(
    stores: list[Store],
) -> None:
    """It remembers the metric from before its final value was there, and a new attempt has none: nothing seems to change."""
    taking_turns = (
        (stores[0], write(1, points([1], [1.0]), run="finals", attempt=1)),
        (stores[1], write(2, complete({"m": 0.5}), run="finals", attempt=1)),
        (stores[0], write(1, start(), run="finals", attempt=2, writer="another-writer-000")),
    )
    for store, one in taking_turns:
        assert store.flush([one]).applied == 1
    sent = [one for _, one in taking_turns]
    assert read_state(stores[2], ["finals"], []) == expected_state(sent, ["finals"], [])
