"""What a store promises to watchers: every change once, in order, by page, from wherever they have come to."""

from __future__ import annotations

import dataclasses

import pytest

from tests.contract.store_databases import execute
from tests.contract.store_deleting import delete_experiment, undelete_experiment
from tests.contract.store_writes import RUN, T, complete, points, start, update, write
from tests.contract.watcher import EVERYTHING, StoreWatcher, Telling, state_in
from tracker_server.errors import InvalidRequest
from tracker_server.model.status import Status
from tracker_server.model.watching import Cursor
from tracker_server.model.writes import Body, CloseWriter, Heartbeat, LogPoints, UpdateRun
from tracker_server.partitions import partition_of
from tracker_server.store.store import Store


class ChangesContract:
    """The part of the battery about watching."""

    def test_each_flush_that_changes_runs_raises_their_partitions_by_one(self, store: Store) -> None:
        before = store.revisions()
        outcome = store.flush([write(1, points([1], [1.0])), write(1, points([1], [1.0]), run="other")])
        after = store.revisions()
        assert dict(outcome.revisions) == {p: r for p, r in enumerate(after) if r != before[p]}
        assert all(new - old in (0, 1) for old, new in zip(before, after, strict=True))
        assert store.flush([write(1, points([1], [1.0]))]).revisions == {}, "a duplicate changes nothing"
        assert store.revisions() == after

    def test_a_change_is_given_once_as_the_run_is(self, store: Store) -> None:
        watcher = StoreWatcher.from_now(store)
        assert watcher.catch_up() == []
        store.flush([write(1, start("e", name="A run"))])
        store.flush([write(2, points([1, 2], [0.5, 0.25]))])
        (change,) = watcher.catch_up()
        assert (change.run.name, change.run.status, [m.totals.count for m in change.metrics]) == ("A run", 1, [2])
        assert watcher.catch_up() == []
        store.flush([write(3, complete({"accuracy": 0.9}))])
        (ended,) = watcher.catch_up()
        assert (ended.run.status, {m.name: m.final for m in ended.metrics}) == (2, {"accuracy": 0.9, "m": None})
        assert ended.revision > change.revision
        assert watcher.latest()[RUN] == state_in(store, RUN)

    def test_signs_of_life_are_no_changes_but_of_a_new_run(self, store: Store) -> None:
        watcher = StoreWatcher.from_now(store)
        store.flush([write(0, Heartbeat())])
        assert len(watcher.catch_up()) == 1
        store.flush([write(0, Heartbeat(), accepted=T + 60_000)])
        store.flush([write(0, CloseWriter(0)), write(1, LogPoints((), 5))])
        assert watcher.catch_up() == []
        store.flush([write(0, Heartbeat(), attempt=1, accepted=T + 70_000)])
        assert [change.run.attempt for change in watcher.catch_up()] == [1]

    def test_pages_end_anywhere_and_go_on_there(self, store: Store) -> None:
        watcher = StoreWatcher.from_now(store, page=3)
        names = [f"run-{number}" for number in range(20)]
        store.flush([write(1, points([1], [1.0]), run=name) for name in names])
        while True:
            more = watcher.read()
            watcher.reconnect()
            if not more:
                break
        assert sorted(change.run.run_id for change in watcher.given) == sorted(names)

    def test_a_run_that_changes_before_its_turn_is_given_once(self, store: Store) -> None:
        watcher = StoreWatcher.from_now(store, page=1)
        names = [f"run-{number}" for number in range(10)]
        store.flush([write(1, points([1], [1.0]), run=name) for name in names])
        assert watcher.read()
        store.flush([write(2, points([2], [1.0]), run=name) for name in names])
        watcher.catch_up()
        watcher.check_order()
        first, *others = watcher.given
        assert sorted(change.run.run_id for change in others) == sorted(names)
        assert first.run.run_id in names
        assert all(change.metrics[0].totals.count == 2 for change in others)

    def test_a_snapshot_gives_what_is_there_newest_first_and_then_what_changed(self, store: Store) -> None:
        names = [f"run-{number:02}" for number in range(60)]
        for number, name in enumerate(names):
            store.flush([write(1, start("e"), run=name, accepted=T + number)])
        store.flush([write(2, update(fields={"deleted_ms": T}), run="run-07")])
        watcher = StoreWatcher.with_snapshot(store, page=40)
        assert watcher.read()
        assert [change.run.run_id for change in watcher.given] == names[:19:-1]
        store.flush([write(2, points([1], [1.0]), run=name) for name in ("run-50", "run-10")])
        watcher.reconnect()
        watcher.catch_up()
        watcher.check_order()
        assert sorted(watcher.latest()) == [name for name in names if name != "run-07"]
        assert {run for run, state in watcher.latest().items() if state["metrics"]} == {"run-50", "run-10"}
        assert len(watcher.given) == 60, "run-50 twice, run-10 only when it had changed"

    def test_runs_from_before_there_were_revisions_are_in_a_snapshot(self, store: Store) -> None:
        store.flush([write(1, start("e"))])
        execute(store, "DELETE FROM run_revisions")
        (change,) = StoreWatcher.with_snapshot(store).catch_up()
        assert (change.run.run_id, change.revision) == (RUN, 0)

    def test_filters_by_run_experiment_and_metric(self, store: Store) -> None:
        queries = {
            "runs": dataclasses.replace(EVERYTHING, run_ids=("a", "c", "missing")),
            "experiment": dataclasses.replace(EVERYTHING, experiment_id="e"),
            "metrics": dataclasses.replace(EVERYTHING, metrics=("n", "missing")),
            "few": dataclasses.replace(EVERYTHING, max_metrics=1),
            "none": dataclasses.replace(EVERYTHING, max_metrics=0),
        }
        watchers = {name: StoreWatcher.from_now(store, query) for name, query in queries.items()}
        for run in ("a", "b", "c"):
            writes: list[Body] = [points([1], [1.0]), points([1], [2.0], name="n"), start("f" if run == "c" else "e")]
            store.flush([write(number, body, run=run) for number, body in enumerate(writes, 1)])
        for watcher in watchers.values():
            watcher.catch_up()
        found = {
            name: {change.run.run_id: [m.name for m in change.metrics] for change in watcher.given}
            for name, watcher in watchers.items()
        }
        assert found["runs"] == {"a": ["m", "n"], "c": ["m", "n"]}
        assert found["experiment"] == {"a": ["m", "n"], "b": ["m", "n"]}
        assert found["metrics"] == {"a": ["n"], "b": ["n"], "c": ["n"]}
        assert found["few"] == {"a": ["m"], "b": ["m"], "c": ["m"]}
        assert found["none"] == {"a": [], "b": [], "c": []}

    def test_who_watches_an_experiment_is_told_once_that_a_run_left_it(self, store: Store) -> None:
        watcher = StoreWatcher.from_now(store, dataclasses.replace(EVERYTHING, experiment_id="default"))
        store.flush([write(1, points([1], [1.0]))])
        assert [change.run.experiment_id for change in watcher.catch_up()] == ["default"]
        store.flush([write(2, start("e"))])
        store.flush([write(3, points([2], [1.0]))])
        assert [change.run.experiment_id for change in watcher.catch_up()] == ["e"]
        store.flush([write(4, points([3], [1.0]))])
        assert watcher.catch_up() == []

    def test_deletion_and_restoring_are_changes(self, store: Store) -> None:
        store.flush([write(1, start("e"))])
        watcher = StoreWatcher.from_now(store)
        store.flush([write(2, UpdateRun(T, {"deleted_ms": T}, {}, from_outside=True))])
        assert [change.run.deleted_ms for change in watcher.catch_up()] == [T]
        store.flush([write(3, UpdateRun(T + 1, {"deleted_ms": None}, {}, from_outside=True))])
        assert [change.run.deleted_ms for change in watcher.catch_up()] == [None]

    @pytest.mark.parametrize("page", [1, 3, 7, 100])
    def test_deletion_and_restoring_of_an_experiment_are_changes_of_each_of_its_runs(
        self, store: Store, page: int
    ) -> None:
        names = [f"run-{number}" for number in range(7)]
        store.flush([write(1, start("e"), run=name, accepted=T + number % 3) for number, name in enumerate(names)])
        store.flush([write(1, start("f"), run="elsewhere")])
        queries = (EVERYTHING, dataclasses.replace(EVERYTHING, experiment_id="e"))
        watchers = [StoreWatcher.from_now(store, query) for query in queries]
        of_one = StoreWatcher.from_now(store, dataclasses.replace(EVERYTHING, run_ids=("run-3",)))
        telling = Telling(store, page)
        for number, (deletion, deleted_ms) in enumerate(((delete_experiment, T), (undelete_experiment, None))):
            writes = [deletion(number + 1, at=T + number)]
            store.flush(writes)
            telling.flushed(writes)
            while telling.advance():
                pass
            for watcher in watchers:
                told = {change.run.run_id: change.experiment_deleted_ms for change in watcher.catch_up()}
                assert told == dict.fromkeys(names, deleted_ms)
            assert [change.experiment_deleted_ms for change in of_one.catch_up()] == [deleted_ms]
        for watcher in (*watchers, of_one):
            watcher.check_order()

    def test_telling_of_an_experiment_raises_each_partition_of_a_page_by_one(self, store: Store) -> None:
        names = [f"run-{number}" for number in range(20)]
        store.flush([write(1, start("e"), run=name) for name in names])
        before = store.revisions()
        revisions, after = store.revise_experiment("e")
        assert (revisions, after) == ({p: before[p] + 1 for p in revisions}, None)
        assert revisions.keys() == {partition_of(name, store.partitions) for name in names}
        assert store.revise_experiment("unknown") == ({}, None)

    def test_who_begins_with_a_snapshot_between_a_deletion_and_its_telling_misses_nothing(self, store: Store) -> None:
        store.flush([write(1, start("e"), run=name) for name in ("a", "b")])
        early = StoreWatcher.with_snapshot(store, page=1)
        assert early.read()
        store.flush([delete_experiment(1)])
        late = StoreWatcher.with_snapshot(store)
        assert late.catch_up() == []
        store.revise_experiment("e")
        for watcher in (early, late):
            watcher.catch_up()
            told = {run: state["experiment_deleted_ms"] for run, state in watcher.latest().items()}
            assert told == {"a": T, "b": T}

    def test_totals_of_a_rewound_series_are_right_before_they_are_made_anew(self, store: Store) -> None:
        watcher = StoreWatcher.from_now(store)
        store.flush([write(1, points(range(10), [float(step) for step in range(10)]), attempt=1)])
        assert store.flush([write(2, points([5], [0.5]), attempt=2)]).stale
        (change,) = watcher.catch_up()
        assert [metric.totals.count for metric in change.metrics] == [6]
        store.refresh_totals(RUN)
        assert watcher.catch_up() == [], "nothing reads otherwise"

    def test_many_changes_in_one_partition_keep_nobody_waiting_in_another(self, store: Store) -> None:
        watcher = StoreWatcher.from_now(store, page=1)
        names = [f"run-{number}" for number in range(16)]
        for turn in range(1, 30):
            store.flush([write(turn, points([turn], [1.0]), run=name) for name in names])
            watcher.read()
        seen = {partition_of(change.run.run_id, store.partitions) for change in watcher.given}
        assert seen == {partition_of(name, store.partitions) for name in names}

    def test_a_cursor_ahead_of_the_database_is_refused(self, store: Store) -> None:
        store.flush([write(1, start("e"))])
        ahead = Cursor(tuple(revision + 1 for revision in store.revisions()))
        with pytest.raises(InvalidRequest, match="ahead of the database"):
            store.read_watched(EVERYTHING, ahead, lambda _: True)

    def test_ended_attempts_are_read_as_they_are_stored(self, store: Store) -> None:
        store.flush([write(1, start("e", metadata={"gpu": "A100"}), attempt=1)])
        store.flush(
            [write(2, points([1, 2], [0.5, 0.25]), attempt=1), write(3, points([1], [7.0], name="n"), attempt=1)]
        )
        ending = complete({"n": 8.0}, at=T + 5, artifacts={"model": "s3://b/m"})
        store.flush([write(4, ending, attempt=1)])
        (ended,) = store.ended_attempts({RUN: 1, "unknown": 1})
        assert (ended.run_id, ended.experiment_id, ended.attempt, ended.ended_ms) == (RUN, "e", 1, T + 5)
        assert (ended.status, ended.final_metrics, ended.last_values) == (
            Status.COMPLETED,
            {"n": 8.0},
            {"m": 0.25, "n": 7.0},
        )
        assert (ended.artifacts, ended.metadata) == ({"model": "s3://b/m"}, {"gpu": "A100"})
        store.flush([write(5, points([3], [0.125]), attempt=2)])
        (late,) = store.ended_attempts({RUN: 0})
        assert (late.final_metrics, late.last_values) == ({"n": 8.0}, {}), "the metrics are another attempt's by now"
        assert store.ended_attempts({RUN: 2}) == []
