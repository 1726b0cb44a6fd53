"""Purging on PostgreSQL: killed in the middle, beside a compaction that holds the run, and under the locks of flushes."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from deploy.servers import PostgreSQL
from deploy.servers.processes import wait_until
from tests.contract.store_databases import migrated_url, postgres_store
from tests.contract.store_deleting import delete_experiment, delete_run, fill
from tests.contract.store_purging import LATER, left_of
from tests.contract.store_writes import RUN, block, points, start, write
from tests.e2e.processes import ROOT
from tracker_server.model.writes import LogPoints
from tracker_server.partitions import partition_of
from tracker_server.store.purging import Place
from tracker_server.store.store import Store


@pytest.fixture
def store(postgresql: PostgreSQL) -> Iterator[Store]:
    with postgres_store(postgresql) as store:
        yield store


@pytest.mark.timeout(90)
def test_a_purge_that_is_killed_goes_on_where_the_rows_end(store: Store, postgresql: PostgreSQL) -> None:
    names = tuple(f"m{number}" for number in range(1_000))
    for sequence in range(1, 21):
        store.flush([write(sequence, LogPoints((block(names, [sequence], [[0.5]] * 1_000),)))])
    store.flush([delete_run(1)])
    command = [sys.executable, "-m", "tracker_server", "purge", "--now", RUN]
    environment = {"TRACKER_DATABASE_URL": migrated_url(postgresql), "TRACKER_BROKER_URL": "amqp://unused"}
    environment |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}", "TRACKER_CACHE_URL": "memory://"}
    killed = subprocess.Popen(command, env=environment, cwd=ROOT)
    try:
        assert wait_until(lambda: left_of(store).get("chunk_tail", 0) < 20_000, 30, interval=0.01)
    finally:
        killed.kill()
        killed.wait()
    left = left_of(store)["chunk_tail"]
    assert 0 < left < 20_000
    assert store.purging.due_runs(LATER, "", 10) == [RUN]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split(" removed")[0].split(", ")[1]) == (0, f"{left:,} points"), done.stderr
    assert left_of(store) == {}


def test_a_run_whose_chunks_are_being_merged_is_left_alone(store: Store) -> None:
    fill(store)
    store.flush([delete_run(1)])
    assert store.purging.begin(RUN, LATER)
    with store._writer.begin() as connection:
        assert store._bulk.begin_compaction(connection, RUN)
        assert store.purging.remove(RUN, Place()) is None
        assert left_of(store) != {}
    assert store.purging.remove(RUN, Place()) is not None


def test_an_experiment_waits_for_every_flush_that_may_put_a_run_into_it(store: Store) -> None:
    store.flush([write(1, start("e"))])
    store.flush([delete_run(1), delete_experiment(1)])
    assert store.purging.begin(RUN, LATER)
    assert store.purging.remove(RUN, Place()) is not None
    removed: list[bool] = []
    new = next(f"new-{number}" for number in range(99) if partition_of(f"new-{number}", 8) != partition_of("e", 8))
    purge = threading.Thread(target=lambda: removed.append(store.purging.remove_experiment("e", LATER)))
    with store._transaction({new}) as connection:
        store._apply(connection, [write(1, start("e"), run=new)])
        purge.start()
        assert wait_until(lambda: waiting(store) == 1, 10, interval=0.01)
    purge.join()
    assert removed == [False]
    assert [one.experiment_id for one in store.list_experiments(None, 10, show_deleted=True)] == ["e"]


def waiting(store: Store) -> int:
    """Sessions that wait for an advisory lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'"
    with store._reader.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def test_flushes_wait_for_no_purge(store: Store) -> None:
    fill(store)
    store.flush([delete_run(1)])
    assert store.purging.begin(RUN, LATER)
    with store._locked(()) as connection:
        assert store._bulk.begin_compaction(connection, RUN)
        connection.execute(text("DELETE FROM chunk_tail WHERE run_id = :run"), {"run": RUN})
        # Not committed; it would hang if it waited.
        outcome = store.flush([write(9, points([9], [1.0])), write(9, points([9], [1.0]), run="other")])
    assert (outcome.dropped, outcome.applied) == (1, 1)
