"""What a store promises of purging: nothing is left, nothing comes back, whatever else goes on and however it ends."""

import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from tests.contract.store_compaction import log_singly
from tests.contract.store_deleting import (
    delete_experiment,
    delete_run,
    fill,
    listed,
    undelete_experiment,
    undelete_run,
)
from tests.contract.store_state import read_run, read_summary
from tests.contract.store_writes import RUN, WRITER, T, block, complete, points, start, update, update_experiment, write
from tracker_server import limits
from tracker_server.errors import ExperimentNotFound, RunNotFound
from tracker_server.model.ranges import Ranges
from tracker_server.model.records import RunChange
from tracker_server.model.watching import Cursor, WatchQuery
from tracker_server.model.writes import CloseWriter, Heartbeat, LogPoints
from tracker_server.store import purging
from tracker_server.store.ledger import DeadWrite
from tracker_server.store.purging import Place, Removed
from tracker_server.store.store import Store

LATER = limits.MAX_TIME_MS
RUN_TABLES = ("attempts", "series", "chunks", "chunk_tail", "writers")


def rows_of(store: Store, table: str, run: str = RUN) -> list[dict[str, Any]]:
    """What a table has of a run."""
    with store._reader.connect() as connection:
        query = text(f"SELECT * FROM {table} WHERE run_id = :run")
        return [dict(row) for row in connection.execute(query, {"run": run}).mappings()]


def left_of(store: Store, run: str = RUN) -> dict[str, int]:
    """How many rows each table has of a run, but for its own."""
    return {table: len(rows) for table in RUN_TABLES if (rows := rows_of(store, table, run))}


def remove(store: Store, run: str = RUN) -> list[Removed]:
    """Takes away all rows of a run that was marked."""
    done = []
    place: Place | None = Place()
    while place is not None:
        removed = store.purging.remove(run, place)
        assert removed is not None
        done.append(removed)
        place = removed.following
    return done


def purge(store: Store, run: str = RUN, before: int = LATER) -> bool:
    """Purges a run, if it is due."""
    if not store.purging.begin(run, before):
        return False
    remove(store, run)
    return True


class PurgingContract:
    """The part of the battery about purging."""

    def test_of_a_purged_run_only_its_name_is_left(self, store: Store) -> None:
        fill(store)
        others = read_run(store, "other")
        store.flush([write(4, CloseWriter(3)), write(5, points(range(2000), [0.5] * 2000)), delete_run(1)])
        assert set(left_of(store)) == set(RUN_TABLES)
        assert purge(store)
        assert left_of(store) == {}
        (row,) = rows_of(store, "runs")
        assert {name for name, value in row.items() if value not in (None, "", 0, False, [], {}, "[]", "{}")} == {
            "run_id",
            "deleted_ms",
            "purged",
        }
        assert (row["deleted_ms"], bool(row["purged"])) == (T, True)
        assert read_run(store, "other") == others
        assert store.purging.due_runs(LATER, "", 10) == []
        assert not store.purging.begin(RUN, LATER)

    def test_reads_say_that_it_is_purged(self, store: Store) -> None:
        fill(store)
        store.flush([delete_run(1)])
        purge(store)
        for shown in (False, True):
            with pytest.raises(RunNotFound, match=r"^run 'run' was deleted and is purged$"):
                store.read_run(RUN, "", 1, show_deleted=shown)
        assert listed(store, show_deleted=True) == ["other"]
        assert store.dashboard_stats().total_runs == 1
        assert [one.run_count for one in store.list_experiments(None, 10)] == [1]

    def test_what_comes_late_is_dropped_counted_and_does_not_bring_it_back(self, store: Store) -> None:
        fill(store)
        store.flush([delete_run(1)])
        assert store.purging.begin(RUN, LATER)
        late = [
            write(4, points([9], [9.0])),
            write(5, complete({"final": 1.0})),
            write(0, Heartbeat(), writer=""),
            write(0, CloseWriter(5)),
            write(1, start("e"), attempt=7, writer="another-0123456789"),
            write(6, update(T + 9, {"notes": "late"})),
            undelete_run(2, at=T + 9),
        ]
        for batch in ([*late, write(4, points([3], [1.0]), run="other")], late):
            outcome = store.flush(batch)
            assert (outcome.dropped, outcome.applied) == (7, len(batch) - 7)
            assert read_run(store, RUN) is None
            remove(store)
            assert left_of(store) == {}
        assert read_run(store, "other") is not None

    def test_rows_that_a_consumer_remembers_do_not_come_back(self, store: Store) -> None:
        fill(store)
        store.flush([write(4, points([3], [1.0])), delete_run(1)])
        purge(store)
        assert store.flush([write(5, points([4], [1.0]))]).dropped == 1
        store.refresh_totals(RUN)
        assert left_of(store) == {}

    def test_who_waits_for_a_write_to_it_is_told(self, store: Store) -> None:
        fill(store)
        store.flush([delete_run(1)])
        keys = [(RUN, WRITER), (RUN, "late-0123456789"), ("other", WRITER), ("nobody", WRITER)]
        purge(store)
        found = store.applied(keys, experiments=False)
        assert {key: sets.purged for key, sets in found.items()} == {keys[0]: True, keys[1]: True, keys[2]: False}

    def test_a_dead_write_to_it_leaves_nothing(self, store: Store) -> None:
        fill(store)
        store.flush([delete_run(1)])
        purge(store)
        dead = [DeadWrite(run, False, WRITER, 9, False) for run in (RUN, "other")]
        store.mark_dead([*dead, DeadWrite(RUN, True, WRITER, 1, False)])
        assert left_of(store) == {}
        assert store.applied([("other", WRITER)], experiments=False)["other", WRITER].dead == Ranges.parse("9")

    def test_nothing_is_purged_before_its_time_or_after_its_restoration(self, store: Store) -> None:
        fill(store)
        store.flush([delete_run(1, at=T + 5)])
        assert store.purging.due_runs(T + 4, "", 10) == []
        assert not purge(store, before=T + 4)
        assert store.purging.due_runs(T + 5, "", 10) == [RUN]
        store.flush([undelete_run(2, at=T + 6)])
        for run in (RUN, "other", "nobody"):
            assert not purge(store, run)
        assert read_run(store, RUN) is not None

    def test_runs_that_are_due_come_in_pages(self, store: Store) -> None:
        for run in ("a", "b", "c"):
            store.flush([write(1, start("e" if run < "c" else ""), run=run), delete_run(1, run=run)])
        assert store.purging.due_runs(T, "", 2) == ["a", "b"]
        assert store.purging.due_runs(T, "b", 2) == ["c"]
        assert store.purging.due_runs(T, "", 9, experiment_id="e") == ["a", "b"]

    def test_a_purge_that_died_is_due_again_and_goes_on(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(purging, "_MOST_ROWS", 3)
        log_singly(store, 8, names=("m", "n"))
        store.flush([delete_run(1)])
        assert store.purging.begin(RUN, T)
        place: Place | None = Place()
        for _ in range(3):
            assert place is not None
            removed = store.purging.remove(RUN, place)
            assert removed is not None
            assert removed.rows <= 3
            place = removed.following
        left = left_of(store)
        assert left["chunk_tail"] < 16
        assert store.purging.due_runs(0, "", 10) == [RUN]
        store.flush([undelete_run(2, at=T + 9)])
        assert purge(store, before=0)
        assert left_of(store) == {}

    def test_a_transaction_takes_few_rows_few_points_and_little_memory(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = tuple(f"m{n}" for n in range(8))
        rows = np.random.default_rng(0).random((8, 4000)).tolist()
        for sequence in range(1, 21):
            steps = range(sequence * 4000, sequence * 4000 + 4000)
            store.flush([write(sequence, LogPoints((block(names, steps, rows),)))])
        store.flush([delete_run(1)])
        monkeypatch.setattr(purging, "_MOST_POINTS", 50_000)
        assert store.purging.begin(RUN, T)
        tracemalloc.start()
        try:
            done = remove(store)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert sum(removed.points for removed in done) == 640_000
        assert max(removed.points for removed in done) < 50_000 + 4096
        assert max(removed.rows for removed in done) <= 1024
        assert len(done) >= 12
        assert peak < limits.MIB

    def test_beside_flushes_and_compactions_nothing_is_left_and_others_keep_everything(self, store: Store) -> None:
        log_singly(store, 60, names=("m", "n"))
        store.flush([delete_run(1)])
        stop, failures = threading.Event(), list[BaseException]()

        def keep_on(work: Callable[[int], object]) -> None:
            number = 0
            try:
                while not stop.is_set():
                    number += 1
                    work(number)
            except BaseException as error:  # noqa: BLE001  # seen by the test
                failures.append(error)

        def log(number: int) -> None:
            store.flush([write(60 + number, points([number], [1.0])), write(number, points([1], [1.0]), run="other")])

        threads = [
            threading.Thread(target=keep_on, args=(work,))
            for work in (
                log,
                lambda _: store.compact(RUN, finish=True, many=2),
                lambda _: store.refresh_totals(RUN),
            )
        ]
        for thread in threads:
            thread.start()
        try:
            while not store.purging.begin(RUN, LATER):
                pass
            place: Place | None = Place()
            while place is not None:
                removed = store.purging.remove(RUN, place)
                place = place if removed is None else removed.following
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert left_of(store) == {}
        other = read_run(store, "other")
        assert other is not None
        assert len(other["history"]["m"]) == other["metrics"]["m"]["count"] > 0

    def test_watchers_are_told_whenever_they_come(self, store: Store) -> None:
        fill(store)
        store.flush([delete_run(1)])
        before = store.revisions()
        purge(store)
        for run_ids, experiment in (((), ""), ((RUN,), ""), ((), "e")):
            seen: list[RunChange] = []

            def add(change: RunChange, seen: list[RunChange] = seen) -> bool:
                seen.append(change)
                return True

            store.read_watched(WatchQuery(run_ids, experiment, (), 10), Cursor(before), add)
            assert [(change.run.run_id, change.run.deleted_ms, change.purged) for change in seen] == [(RUN, T, True)]

    def test_an_experiment_goes_after_its_runs_and_its_id_is_free_again(self, store: Store) -> None:
        fill(store)
        store.flush([write(1, update_experiment(T, {"notes": "old"}), run="e"), delete_experiment(1)])
        assert store.purging.due_experiments(LATER, "", 10) == []
        assert not store.purging.remove_experiment("e", LATER)
        assert store.purging.due_runs(T, "", 10) == ["other", RUN]
        assert all(purge(store, run) for run in (RUN, "other"))
        assert store.purging.due_experiments(T - 1, "", 10) == []
        assert not store.purging.remove_experiment("e", T - 1)
        assert store.purging.due_experiments(T, "", 10) == ["e"]
        assert store.purging.remove_experiment("e", T)
        with pytest.raises(ExperimentNotFound, match=r"^no experiment 'e'$"):
            store.summarize("e", "", 1)
        store.flush([write(1, start("e"), run="new")])
        summary = read_summary(store, "e")
        assert summary is not None
        assert (summary["newest"], summary["experiment"]["notes"]) == (["new"], "")

    def test_an_experiment_that_was_restored_is_not_purged_nor_are_its_runs(self, store: Store) -> None:
        fill(store)
        store.flush([delete_experiment(1)])
        store.flush([undelete_experiment(2, at=T + 1)])
        assert store.purging.due_runs(LATER, "", 10) == []
        assert not purge(store)
        store.flush([delete_run(1), delete_run(1, run="other")])
        assert all(purge(store, run) for run in (RUN, "other"))
        assert not store.purging.remove_experiment("e", LATER)

    def test_a_run_made_in_a_deleted_experiment_can_be_restored_for_as_long_as_any_other(self, store: Store) -> None:
        store.flush([write(1, update_experiment(T), run="e"), delete_experiment(1)])
        store.flush([write(1, start("e"), accepted=T + 50)])
        assert store.purging.due_runs(T + 49, "", 10) == []
        assert not purge(store, before=T + 49)
        assert store.purging.due_experiments(T + 49, "", 10) == []
        assert purge(store, before=T + 50)
        assert rows_of(store, "runs")[0]["deleted_ms"] == T + 50
        assert store.purging.remove_experiment("e", T + 50)

    def test_the_default_experiment_is_emptied_and_stays(self, store: Store) -> None:
        store.flush([write(1, points([1], [1.0])), write(1, update_experiment(T, {"notes": "n"}), run="default")])
        store.flush([delete_experiment(1, "default")])
        assert purge(store)
        assert store.purging.remove_experiment("default", T)
        assert store.list_experiments(None, 10) == []
        store.flush([write(1, points([1], [1.0]), run="new")])
        (listed,) = store.list_experiments(None, 10)
        assert (listed.experiment_id, listed.notes, listed.run_count) == ("default", "", 1)
