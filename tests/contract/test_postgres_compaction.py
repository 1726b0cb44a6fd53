"""Compaction on PostgreSQL, where others work on the same rows: killed sessions, locks, the view."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.servers import PostgreSQL
from tests.contract.small_chunks import chunk_counts, compact_whole, make_chunks_small
from tests.contract.store_compaction import log_singly
from tests.contract.store_databases import execute, postgres_store
from tests.contract.store_history import fill_nastily
from tests.contract.store_state import read_run
from tests.contract.store_writes import RUN, points, write
from tests.contract.test_metric_points import assert_same
from tracker_server.errors import StoreUnavailable
from tracker_server.store.compaction import Compacted
from tracker_server.store.store import Store
from tracker_server.store.totals_reader import renewed


@pytest.fixture
def store(postgresql: PostgreSQL) -> Iterator[Store]:
    with postgres_store(postgresql) as store:
        yield store


def test_a_session_killed_in_mid_transaction_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    log_singly(store, 20)
    before, counts = read_run(store, RUN), chunk_counts(store, "chunk_tail", RUN)
    insert = store._bulk.insert_chunks

    def die(connection: Any, *arguments: Any) -> None:
        insert(connection, *arguments)
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(store._bulk, "insert_chunks", die)
    with pytest.raises(StoreUnavailable):
        store.compact(RUN, finish=True)
    monkeypatch.undo()
    assert (chunk_counts(store, "chunk_tail", RUN), chunk_counts(store, "chunks", RUN)) == (counts, [])
    assert compact_whole(store, RUN).parts == 20
    assert read_run(store, RUN) == before


def test_a_compaction_skips_a_run_that_another_works_on_and_waits_for_no_flush(store: Store) -> None:
    log_singly(store, 5)
    with store._writer.begin() as connection:
        assert store._bulk.begin_compaction(connection, RUN)
        assert store.compact(RUN, finish=True) == Compacted()
        store.flush([write(6, points([6], [6.0]))])
    with store._writer.begin() as connection:
        store._bulk.lock_partitions(connection, range(8))
        assert store.compact(RUN, finish=True).parts == 6


def test_totals_of_a_series_that_grows_meanwhile_wait_for_the_compaction_under_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_singly(store, 5)
    execute(store, "UPDATE series SET stale = true")

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.undo()
        found = renewed(*arguments)
        log_singly(store, 1, first=6)
        return found

    monkeypatch.setattr("tracker_server.store.store.renewed", overtaken)
    done = threading.Event()

    def refresh() -> None:
        store.refresh_totals(RUN)
        done.set()

    thread = threading.Thread(target=refresh)
    with store._writer.begin() as connection:
        assert store._bulk.begin_compaction(connection, RUN)
        thread.start()
        assert not done.wait(0.3)
    thread.join()
    assert store.stale_runs(10) == []
    assert store.read_run(RUN, "", 1).metrics[0].totals.count == 6


def test_totals_are_made_anew_beside_a_compaction_where_nothing_comes_meanwhile(store: Store) -> None:
    log_singly(store, 5)
    execute(store, "UPDATE series SET stale = true")
    with store._writer.begin() as connection:
        assert store._bulk.begin_compaction(connection, RUN)
        store.refresh_totals(RUN)
    assert store.stale_runs(10) == []


def test_the_view_shows_the_same_points_after_a_compaction(store: Store) -> None:
    with pytest.MonkeyPatch.context() as patch:
        make_chunks_small(patch)
        fill_nastily(store)
        before = assert_same(store, RUN, "m")
        assert compact_whole(store, RUN).parts
        assert assert_same(store, RUN, "m") == before
