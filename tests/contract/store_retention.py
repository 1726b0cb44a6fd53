"""What a store promises of retention: runs deleted, or without their points, so long after they ended."""

import pytest

from tests.contract.small_chunks import compact_whole
from tests.contract.store_deleting import delete_experiment, delete_run, undelete_run
from tests.contract.store_history import OPEN
from tests.contract.store_purging import rows_of
from tests.contract.store_state import read_all, read_run
from tests.contract.store_writes import RUN, T, complete, points, start, update_experiment, write
from tracker_server.model.records import Position
from tracker_server.model.typed_json import Json
from tracker_server.model.writes import RewindRun
from tracker_server.scopes import EXPERIMENT_LIST, STATS, experiment_scope
from tracker_server.store.history_reader import HistoryQuery
from tracker_server.store.purging import Place
from tracker_server.store.retention import DAY_MS, Rule
from tracker_server.store.store import Store

NOW = T + 30 * DAY_MS


def ended(store: Store, run: str = RUN, *, at: int = T) -> None:
    """A run of experiment e, with points, that has ended."""
    store.flush(
        [
            write(1, start("e", at=at), run=run, accepted=at),
            write(2, points([1, 2, 3], [3.0, 1.0, 2.0]), run=run, accepted=at),
            write(3, complete(at=at), run=run, accepted=at),
        ]
    )


def drop_points(store: Store, run: str = RUN, before: int = T) -> bool:
    """Drops the points of a run, if it is due."""
    place = store.retention.begin_drop(run, before, NOW)
    if not isinstance(place, Place):
        return False
    following: Place | None = place
    while following is not None:
        removed = store.purging.remove(run, following)
        assert removed is not None
        following = removed.following
    return True


class RetentionContract:
    """The part of the battery about retention."""

    def test_rules_are_those_of_experiments_that_are_there(self, store: Store) -> None:
        for name, days in (("a", 30), ("b", 30), ("c", 0)):
            rule: Json = {"delete_runs_after_days": days, "drop_points_after_days": 7} if days else None
            store.flush([write(1, update_experiment(T, {"retention": rule}), run=name)])
        store.flush([delete_experiment(1, "b")])
        assert store.retention.rules() == [Rule("a", 30, 7)]

    def test_only_runs_that_ended_and_fell_silent_so_long_ago_are_found(self, store: Store) -> None:
        ended(store, "old")
        ended(store, "new", at=T + 1)
        ended(store, "elsewhere")
        store.flush([write(1, start("e"), run="running"), delete_run(1, run="elsewhere")])
        # Ended long ago, as its clock says; or as an import says that came now.
        store.flush([write(1, start("e"), run="clock"), write(2, complete(at=T - DAY_MS), run="clock", accepted=NOW)])
        store.flush([write(1, start("e"), run="import", accepted=NOW, replay=True)])
        store.flush([write(2, complete(at=T), run="import", accepted=NOW, replay=True)])
        # LOST is not an end.
        store.flush([write(1, start("e"), run="lost")])
        with store._writer.begin() as connection:
            connection.exec_driver_sql("UPDATE runs SET status = 6 WHERE run_id = 'lost'")
        assert store.retention.runs_to_delete("e", T, "", 10) == ["old"]
        assert store.retention.runs_to_delete("e", T + 10_000, "new", 10) == ["old"]
        assert store.retention.runs_to_thin("e", T, "", 10) == ["old"]
        assert store.retention.runs_to_delete("default", NOW, "", 10) == []

    def test_retention_deletes_as_a_person_would_and_can_be_undone(self, store: Store) -> None:
        ended(store)
        before = read_run(store, RUN)
        outcome = store.retention.delete(RUN, T, NOW)
        assert outcome is not None
        assert outcome.scopes == {experiment_scope("e"), EXPERIMENT_LIST, STATS}
        assert read_run(store, RUN) is None
        assert store.read_run(RUN, "", 1, show_deleted=True).run.deleted_ms == NOW
        store.flush([undelete_run(1, at=NOW + 1)])
        assert read_run(store, RUN) == before

    def test_a_run_that_was_restored_is_kept_as_long_again(self, store: Store) -> None:
        ended(store)
        store.flush([delete_run(1, at=T + 5)])
        store.flush([undelete_run(2, at=T + 10)])
        assert store.retention.delete(RUN, T + 9, NOW) is None
        assert store.retention.delete(RUN, T + 10, NOW) is not None

    def test_a_run_that_goes_on_meanwhile_is_kept(self, store: Store) -> None:
        ended(store)
        store.flush([write(1, start("e", at=NOW), attempt=5, accepted=NOW, writer="resumed-0123456789")])
        assert store.retention.delete(RUN, T, NOW) is None
        assert store.retention.begin_drop(RUN, T, NOW) is None
        assert read_run(store, RUN) is not None

    def test_without_its_points_a_run_keeps_its_summaries_and_everything_else(self, store: Store) -> None:
        ended(store)
        store.flush([write(4, points(range(10, 5000), [0.5] * 4990))])
        before = store.read_run(RUN, "", 10)
        assert drop_points(store)
        after = store.read_run(RUN, "", 10)
        assert (after.metrics, after.writers, after.attempts) == (before.metrics, before.writers, before.attempts)
        assert after.run.points_dropped_ms == NOW
        assert (rows_of(store, "chunks"), rows_of(store, "chunk_tail")) == ([], [])
        assert read_all(store, RUN, ["m"]) == {"m": []}
        page = store.read_history(HistoryQuery([RUN], ["m"], OPEN, 10, 1000), Position())
        assert (page.parts[0].total_points, len(page.parts[0].steps)) == (0, 0)
        assert store.retention.runs_to_thin("e", NOW, "", 10) == []
        (across,) = store.summarize("e", "", 10).metrics
        assert (across.run_count, across.min) == (1, (0.5, RUN))

    def test_stale_totals_are_made_anew_before_the_points_go(self, store: Store) -> None:
        for attempt, first in ((1, 0), (2, 5)):
            store.flush(
                [
                    write(attempt * 2, points(range(first, 10), [float(attempt)] * (10 - first)), attempt=attempt),
                    write(attempt * 2 + 1, complete(), attempt=attempt),
                ]
            )
        assert store.retention.begin_drop(RUN, T, NOW) is None
        store.refresh_totals(RUN)
        assert drop_points(store)
        (metric,) = store.read_run(RUN, "", 10).metrics
        assert (metric.totals.count, metric.totals.sum) == (10, 15.0)

    def test_points_that_come_later_count_are_kept_and_go_with_the_next_drop(self, store: Store) -> None:
        ended(store)
        drop_points(store)
        store.flush([write(4, points([4], [9.0])), write(5, points([2], [7.0], name="other"))])
        metrics = {metric.name: metric.totals for metric in store.read_run(RUN, "", 10).metrics}
        assert (metrics["m"].count, metrics["m"].sum, metrics["other"].count) == (4, 15.0, 1)
        assert [point[0] for point in read_all(store, RUN, ["m"])["m"]] == [4]
        compact_whole(store, RUN)
        assert store.retention.runs_to_thin("e", T, "", 10) == [RUN]
        assert drop_points(store)
        assert read_all(store, RUN, ["m", "other"]) == {"m": [], "other": []}
        assert {m.name: m.totals for m in store.read_run(RUN, "", 10).metrics} == metrics

    @pytest.mark.parametrize("rewind", [False, True])
    def test_nothing_makes_totals_from_points_that_are_not_there(self, store: Store, rewind: bool) -> None:
        """A later attempt supersedes what it supersedes, but what is counted of dropped points stays counted."""
        ended(store)
        drop_points(store)
        if rewind:
            store.flush([write(1, RewindRun(NOW, 2), attempt=5, writer="resumed-0123456789")])
        outcome = store.flush([write(2, points([2], [4.0]), attempt=5, writer="resumed-0123456789")])
        assert not outcome.stale
        (metric,) = store.read_run(RUN, "", 10).metrics
        assert (metric.totals.count, metric.totals.sum) == (4, 10.0)
        store.refresh_totals(RUN)
        assert store.read_run(RUN, "", 10).metrics == [metric]
        assert [point[0] for point in read_all(store, RUN, ["m"])["m"]] == [2]

    def test_points_of_an_attempt_begun_since_are_not_dropped_with_the_others(self, store: Store) -> None:
        ended(store)
        place = store.retention.begin_drop(RUN, T, NOW)
        assert isinstance(place, Place)
        store.flush([write(1, points([7], [7.0]), attempt=5, writer="resumed-0123456789", accepted=NOW)])
        following: Place | None = place
        while following is not None:
            removed = store.purging.remove(RUN, following)
            assert removed is not None
            following = removed.following
        assert [point[0] for point in read_all(store, RUN, ["m"])["m"]] == [7]
        assert store.retention.runs_to_thin("e", NOW, "", 10) == []
