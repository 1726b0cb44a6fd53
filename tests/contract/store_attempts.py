"""What a store promises of attempts: a newer one supersedes an older one's points from its first step on, in any order."""

import itertools
import math
from dataclasses import replace

import pytest

from tests.contract.store_databases import execute
from tests.contract.store_state import points_of, read_run, read_series
from tests.contract.store_writes import FAILED, RUN, T, block, complete, points, start, write
from tracker_server.model.writes import Heartbeat, LogPoints, Write
from tracker_server.store.store import Store

WRITER_2 = "writer-of-attempt-2"


def values(store: Store, run: str = RUN) -> list[float]:
    """The live values of metric m in order."""
    found: list[float] = read_series(store, run, "m").values.tolist()
    return found


def resumed(run: str = RUN) -> list[Write]:
    """Attempt 1 logs steps 0 to 9; attempt 2 goes on from 5, attempt 3 from 3. Attempt 0 writes beside them."""
    return [
        write(1, points(range(6), [10.0 + s for s in range(6)]), attempt=1, run=run),
        write(2, points(range(6, 10), [10.0 + s for s in range(6, 10)]), attempt=1, run=run),
        write(1, points(range(5, 9), [20.0 + s for s in range(5, 9)]), attempt=2, run=run, writer=WRITER_2),
        write(3, points([3, 4], [33.0, math.nan]), attempt=3, run=run),
        write(4, points([0, 20], [0.25, 0.5], times=[T + 1, T]), attempt=0, run=run),
    ]


class AttemptsContract:
    """The part of the battery about attempts, cuts, and totals made anew."""

    @pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::7])
    def test_a_newer_attempt_supersedes_whatever_the_order(self, store: Store, order: tuple[int, ...]) -> None:
        writes = resumed()
        stale = False
        for at in order:
            stale = bool(store.flush([writes[at]]).stale)
        assert repr(values(store)) == "[10.0, 0.25, 11.0, 12.0, 33.0, nan, 0.5]"
        before = read_run(store, RUN)
        assert before is not None
        assert store.stale_runs(10) == ([RUN] if stale else [])
        store.refresh_totals(RUN)
        assert store.stale_runs(10) == []
        after = read_run(store, RUN)
        assert after == before
        assert after is not None
        assert after["metrics"]["m"]["count"] == 7
        assert after["metrics"]["m"]["finite"] == 6
        assert after["metrics"]["m"]["max"] == "(33.0, 3)"
        assert after["metrics"]["m"]["last"] == repr((20, T, "writer-0123456789", 4, 0.5))

    def test_all_attempts_in_one_flush_are_as_one_by_one(self, store: Store) -> None:
        store.flush(resumed())
        for write_of_other in resumed("other"):
            store.flush([write_of_other])
        one, other = read_run(store, RUN), read_run(store, "other")
        assert one is not None
        assert other is not None
        assert (one["metrics"], one["history"], one["attempts"]) == (
            other["metrics"],
            other["history"],
            other["attempts"],
        )

    def test_an_attempt_that_goes_on_where_the_last_ended_makes_nothing_stale(self, store: Store) -> None:
        store.flush([write(1, points([0, 1], [0.0, 1.0]), attempt=1)])
        assert store.flush([write(2, points([2, 3], [2.0, 3.0]), attempt=2)]).stale == set()
        # A late point of attempt 1 that attempt 2 has superseded is not counted.
        assert store.flush([write(3, points([1, 2], [1.5, 2.5]), attempt=1)]).stale == set()
        assert values(store) == [0.0, 1.0, 1.5, 2.0, 3.0]
        assert store.read_run(RUN, "", 1).metrics[0].totals.count == 5

    def test_an_attempt_that_repeats_the_last_step_supersedes_it(self, store: Store) -> None:
        store.flush([write(1, points([0, 1], [0.0, 1.0]), attempt=1)])
        assert store.flush([write(2, points([1], [9.0]), attempt=2)]).stale == {RUN}
        for _ in range(2):
            assert store.read_run(RUN, "", 1).metrics[0].totals.count == 2
            store.refresh_totals(RUN)

    def test_attempt_0_supersedes_nothing_and_is_not_superseded(self, store: Store) -> None:
        store.flush([write(1, points([0, 1, 2], [0.0, 1.0, 2.0]), attempt=0)])
        store.flush([write(2, points([1], [1.5], times=[T + 1]), attempt=5)])
        store.flush([write(3, points([0], [0.5], times=[T + 1]), attempt=0)])
        assert values(store) == [0.0, 0.5, 1.0, 1.5, 2.0]
        assert store.stale_runs(10) == []

    def test_cuts_are_each_metrics_own(self, store: Store) -> None:
        body = LogPoints((block(["m", "x"], [0, 1, 2], [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]),))
        store.flush([write(1, body, attempt=1), write(2, points([1], [1.5]), attempt=2)])
        assert values(store) == [0.0, 1.5]
        assert read_series(store, RUN, "x").values.tolist() == [0.0, 1.0, 2.0]

    @pytest.mark.parametrize("first", [-(2**63), -(2**63) + 1, 2**63 - 1])
    def test_cuts_at_the_ends_of_the_steps(self, store: Store, first: int) -> None:
        steps = [-(2**63), 0, 2**63 - 1]
        store.flush([write(1, points(steps, [1.0, 2.0, 3.0]), attempt=1)])
        store.flush([write(2, points([first], [9.0]), attempt=2)])
        expected = [value for step, value in zip(steps, [1.0, 2.0, 3.0], strict=True) if step < first] + [9.0]
        assert values(store) == expected
        store.refresh_totals(RUN)
        assert store.read_run(RUN, "", 1).metrics[0].totals.count == len(expected)

    # ------------------------------------------------------------ explicit cuts

    def test_an_explicit_cut_ends_every_older_attempt_in_every_metric(self, store: Store) -> None:
        body = LogPoints((block(["m", "x"], range(6), [list(range(6)), list(range(6))]),))
        store.flush([write(1, body, attempt=0), write(2, body, attempt=1), write(3, Heartbeat(), attempt=2)])
        execute(store, "UPDATE runs SET cuts = '[[2, 4]]'")
        execute(store, "UPDATE series SET stale = TRUE")
        for name in ("m", "x"):
            assert sorted(step for step, _, _ in points_of(read_series(store, RUN, name))) == [0, 0, 1, 1, 2, 2, 3, 3]
        before = store.read_run(RUN, "", 10).metrics
        store.refresh_totals(RUN)
        assert store.read_run(RUN, "", 10).metrics == before
        assert [metric.totals.count for metric in before] == [8, 8]
        # Future points of older attempts, and metrics that are new, are held to it too; those of attempt 2 are not.
        late = LogPoints((block(["m", "new"], [3, 4], [[3.5, 4.5], [3.5, 4.5]]),))
        store.flush([write(4, late, attempt=1), write(5, points([4], [9.0]), attempt=2), write(6, late, attempt=0)])
        assert read_series(store, RUN, "new").values.tolist() == [3.5, 3.5]
        assert values(store)[-1] == 9.0
        counts = {metric.name: metric.totals.count for metric in store.read_run(RUN, "", 10).metrics}
        assert counts == {"m": 11, "new": 2, "x": 8}
        assert store.flush([write(7, points([9], [1.0]), attempt=1)]).points == 1
        assert store.read_run(RUN, "", 1).metrics[0].totals.count == 11

    def test_a_metric_whose_points_are_all_superseded_is_not_listed(self, store: Store) -> None:
        store.flush([write(1, Heartbeat(), attempt=2)])
        execute(store, "UPDATE runs SET cuts = '[[2, 0]]'")
        store.flush([write(1, points([0, 1], [0.0, 1.0], name="gone"), attempt=1), write(2, points([1], [1.0]))])
        assert store.read_run(RUN, "", 10).metrics == []
        assert store.summarize("default", "", 10).metrics == []
        assert len(read_series(store, RUN, "gone").steps) == 0

    # ------------------------------------------------------------ statuses

    def test_a_run_shows_its_newest_attempt_whatever_the_order(self, store: Store) -> None:
        writes = [
            write(1, start(at=T + 5), attempt=1),
            write(2, complete(at=T + 9, status=FAILED), attempt=1, accepted=T + 20_000),
            write(3, start(at=T + 30), attempt=2, accepted=T + 30_000),
            write(4, start(at=T + 20), attempt=2, accepted=T + 40_000),
            write(5, complete(at=T + 70, status=FAILED), attempt=2, accepted=T + 50_000),
            write(6, complete(at=T + 80), attempt=2, accepted=T + 45_000),
        ]
        for number, order in enumerate(itertools.islice(itertools.permutations(writes), 0, 720, 97)):
            run = f"run {number}"
            for one in order:
                store.flush([replace(one, scope_id=run)])
            details = store.read_run(run, "", 10)
            assert (details.run.status, details.run.attempt) == (2, 2)
            assert (details.run.started_ms, details.run.ended_ms) == (T + 20, T + 80)
            assert (details.run.created_ms, details.run.last_seen_ms) == (T, T + 50_000)
            assert [(a.attempt, a.status, a.started_ms, a.ended_ms) for a in details.attempts] == [
                (1, FAILED, T + 5, T + 9),
                (2, 2, T + 20, T + 80),
            ]

    def test_a_newer_attempt_takes_the_older_ones_final_metrics_away(self, store: Store) -> None:
        old = write(1, complete({"m": 0.5, "old": 1.0}), attempt=1)
        new = write(2, Heartbeat(), attempt=2)
        logged = write(3, points([1], [7.0]), attempt=1)
        for number, order in enumerate(itertools.permutations([old, new, logged])):
            run = f"run {number}"
            for one in order:
                store.flush([replace(one, scope_id=run)])
            details = store.read_run(run, "", 10)
            assert [(metric.name, metric.final) for metric in details.metrics] == [("m", None)]
            assert details.run.final_metrics == {}
        (across,) = store.summarize("default", "", 10).metrics
        assert (across.name, across.run_count, across.mean) == ("m", 6, 7.0)

    def test_final_metrics_take_the_place_of_the_last_value_and_are_no_points(self, store: Store) -> None:
        finals = {"m": 0.5, "only": math.nan, "tiny": 5e-324, "zero": -0.0}
        store.flush([write(1, points([1], [7.0])), write(2, complete(finals))])
        metrics = {metric.name: metric for metric in store.read_run(RUN, "", 10).metrics}
        assert {name: repr(metric.final) for name, metric in metrics.items()} == {
            name: repr(value) for name, value in finals.items()
        }
        assert metrics["m"].totals.count == 1
        assert metrics["only"].totals.count == 0
        across = {metric.name: metric for metric in store.summarize("default", "", 10).metrics}
        assert across["m"].mean == 0.5
        assert (across["only"].run_count, across["only"].non_finite_run_count, across["only"].min) == (1, 1, None)
        assert across["tiny"].max == (5e-324, RUN)
        assert len(read_series(store, RUN, "only").steps) == 0
        # Points may still come, also of a metric that was only final until now.
        store.flush([write(3, points([3], [1.0], name="only"))])
        (metric,) = [metric for metric in store.read_run(RUN, "", 10).metrics if metric.name == "only"]
        assert (metric.totals.count, repr(metric.final)) == (1, "nan")

    def test_final_metrics_of_two_ends_are_merged_by_the_later(self, store: Store) -> None:
        store.flush([write(2, complete({"a": 2.0, "b": 2.0}, at=T + 2))])
        store.flush([write(1, complete({"a": 1.0, "c": 1.0}, at=T + 1))])
        assert store.read_run(RUN, "", 10).run.final_metrics == {"a": 2.0, "b": 2.0, "c": 1.0}
        assert [metric.final for metric in store.read_run(RUN, "", 10).metrics] == [2.0, 2.0, 1.0]

    def test_a_summary_counts_stale_series_from_their_points(self, store: Store) -> None:
        store.flush([write(1, points([0, 9], [0.0, 9.0]), attempt=1), write(1, points([0], [4.0]), run="other")])
        store.flush([write(2, points([5], [math.inf]), attempt=2)])
        assert store.stale_runs(10) == [RUN]
        before = store.summarize("default", "", 10).metrics
        store.refresh_totals(RUN)
        assert store.summarize("default", "", 10).metrics == before
        assert (before[0].run_count, before[0].non_finite_run_count) == (2, 1)
        assert (before[0].min, before[0].max, before[0].mean) == ((4.0, "other"), (4.0, "other"), 4.0)
