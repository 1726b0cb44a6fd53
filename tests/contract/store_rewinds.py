"""What a store promises of rewinds: earlier attempts' points beyond a step are superseded in every metric, in any order,
and everything that is read says so; they stay readable by attempt."""

import itertools
from dataclasses import replace

import pytest

from tests.contract.small_chunks import compact_whole, make_chunks_small, naive_downsampling
from tests.contract.store_state import points_of, read_series
from tests.contract.store_writes import RUN, T, block, complete, points, start, update, write
from tracker_server.model.records import Position, SeriesPart
from tracker_server.model.writes import FROM_OUTSIDE, LogNext, LogPoints, RewindRun, UpdateRun, Write
from tracker_server.store.history_reader import HistoryQuery
from tracker_server.store.point_reader import StepRange
from tracker_server.store.store import Store

OTHER = "writer-of-attempt-2"
LOWEST, HIGHEST = -(2**63), 2**63 - 1


def rewind(sequence: int, step: int, *, attempt: int, at: int = T, run: str = RUN) -> Write:
    """A rewind to a step, by the process that goes on from there."""
    return write(sequence, RewindRun(at, step + 1), attempt=attempt, writer=OTHER, run=run)


def both(steps: range, value: float) -> LogPoints:
    """Points of metrics m and x."""
    return LogPoints((block(["m", "x"], list(steps), [[value + step for step in steps]] * 2),))


def values(store: Store, name: str = "m") -> list[float]:
    """The live values of a metric."""
    found: list[float] = read_series(store, RUN, name).values.tolist()
    return found


def of_attempt(store: Store, attempt: int, *, max_points: int = 0, steps: StepRange | None = None) -> SeriesPart:
    """All points of metric m of an attempt."""
    query = HistoryQuery([RUN], ["m"], steps or StepRange(), max_points, 1000, attempt)
    (part,) = store.read_history(query, Position()).parts
    return part


def outside(fields: dict[str, object], *, at: int = T) -> UpdateRun:
    """A change by somebody else than the run."""
    return UpdateRun(at, fields, {}, from_outside=True)  # type: ignore[arg-type]  # JSON


class RewindsContract:
    """The part of the battery about rewinds, changes from outside, and reads by attempt."""

    @pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::11])
    def test_a_rewind_supersedes_whatever_the_order(self, store: Store, order: tuple[int, ...]) -> None:
        writes = [
            write(1, both(range(8), 10.0), attempt=1),
            write(2, points([2, 6], [0.25, 0.75], times=[T + 1, T + 1]), attempt=0),
            rewind(1, 3, attempt=2),
            write(2, points([4, 5], [24.0, 25.0]), attempt=2, writer=OTHER),
            write(3, both(range(8, 10), 10.0), attempt=1),
        ]
        for at in order:
            store.flush([writes[at]])
        for _ in range(2):
            assert values(store) == [10.0, 11.0, 12.0, 0.25, 13.0, 24.0, 25.0]
            assert values(store, "x") == [10.0, 11.0, 12.0, 13.0]
            metrics = {metric.name: metric.totals for metric in store.read_run(RUN, "", 10).metrics}
            assert [(name, one.count, one.last and one.last.step) for name, one in metrics.items()] == [
                ("m", 7, 5),
                ("x", 4, 3),
            ]
            across = {metric.name: metric for metric in store.summarize("default", "", 10).metrics}
            assert [(one.max, one.mean) for one in across.values()] == [((25.0, RUN), 25.0), ((13.0, RUN), 13.0)]
            store.refresh_totals(RUN)
        assert store.stale_runs(10) == []

    def test_superseded_points_stay_readable_by_attempt_in_pages_and_downsampled(self, store: Store) -> None:
        with pytest.MonkeyPatch.context() as patch:
            make_chunks_small(patch)
            for first in range(0, 40, 5):
                store.flush([write(first + 1, points(range(first, first + 5), [float(first % 7)] * 5), attempt=1)])
            store.flush([rewind(1, 20, attempt=2), write(2, points([21], [0.5]), attempt=2, writer=OTHER)])
            for compacted in (False, True):
                if compacted:
                    compact_whole(store, RUN)
                whole = of_attempt(store, 1)
                assert (whole.steps.tolist(), whole.total_points) == (list(range(40)), 40)
                assert of_attempt(store, 2).steps.tolist() == [21]
                assert of_attempt(store, 3).steps.tolist() == []
                assert of_attempt(store, 1, steps=StepRange(19, 22)).total_points == 4
                few = of_attempt(store, 1, max_points=9)
                assert (points_of(few), few.total_points) == (naive_downsampling(points_of(whole), 9), 40)
                paged: list[tuple[int, int, str]] = []
                position: Position | None = Position()
                while position is not None:
                    page = store.read_history(HistoryQuery([RUN], ["m"], StepRange(), 0, 7, 1), position)
                    paged += [point for part in page.parts for point in points_of(part)]
                    position = page.following
                assert paged == points_of(whole)

    def test_an_attempt_of_a_rewind_is_listed_with_its_step_and_the_lowest_counts(self, store: Store) -> None:
        store.flush([write(1, start(at=T), attempt=1), write(2, complete(status=5, at=T + 9), attempt=1)])
        store.flush([rewind(1, 7, attempt=2, at=T + 20), rewind(2, 3, attempt=2, at=T + 30)])
        store.flush([rewind(3, 5, attempt=2, at=T + 25)])
        first, second = store.read_run(RUN, "", 1).attempts
        assert (first.attempt, first.status, first.started_ms, first.ended_ms) == (1, 5, T, T + 9)
        assert first.rewound_from_step is None
        assert (second.attempt, second.status, second.started_ms, second.ended_ms) == (2, 1, T + 20, None)
        assert second.rewound_from_step == 4

    def test_a_rewind_of_a_run_that_nobody_started_makes_it(self, store: Store) -> None:
        store.flush([rewind(1, 3, attempt=2)])
        store.flush([write(1, both(range(8), 10.0), attempt=1)])
        run = store.read_run(RUN, "", 10)
        assert (run.run.attempt, run.run.status, [metric.totals.count for metric in run.metrics]) == (2, 1, [4, 4])

    def test_the_final_metrics_of_a_superseded_attempt_are_gone(self, store: Store) -> None:
        store.flush([write(1, points([1], [7.0]), attempt=1), write(2, complete({"m": 0.5, "f": 1.0}), attempt=1)])
        store.flush([rewind(1, 1, attempt=2)])
        run = store.read_run(RUN, "", 10)
        assert [(metric.name, metric.final) for metric in run.metrics] == [("m", None)]
        assert run.run.final_metrics == {}

    def test_a_metric_all_of_whose_points_were_superseded_is_not_listed_stale_or_not(self, store: Store) -> None:
        names = [f"gone {number:02}" for number in range(30)]
        gone = LogPoints((block(names, [5, 6], [[1.0, 2.0]] * 30),))
        store.flush([write(1, gone, attempt=1), write(2, points([1], [1.0], name="kept"), attempt=1)])
        store.flush([rewind(1, 4, attempt=2)])
        for _ in range(2):
            page = store.read_run(RUN, "", 10)
            assert ([metric.name for metric in page.metrics], page.more_metrics) == (["kept"], False)
            assert [metric.name for metric in store.summarize("default", "", 10).metrics] == ["kept"]
            while store.refresh_totals(RUN):
                pass

    @pytest.mark.parametrize("step", [LOWEST, LOWEST + 1, -1, HIGHEST - 1])
    def test_rewinds_at_the_ends_of_the_steps(self, store: Store, step: int) -> None:
        steps = [LOWEST, LOWEST + 1, 0, HIGHEST]
        store.flush([write(1, points(steps, [1.0, 2.0, 3.0, 4.0]), attempt=1)])
        store.flush([rewind(1, step, attempt=2)])
        expected = [one for one in steps if one <= step]
        assert read_series(store, RUN, "m").steps.tolist() == expected
        store.refresh_totals(RUN)
        assert [metric.totals.count for metric in store.read_run(RUN, "", 9).metrics] == [len(expected)]

    def test_many_series_are_refreshed_in_short_pieces(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        names = [f"m{number}" for number in range(300)]
        for sequence in (1, 2):
            steps = [2 * sequence, 2 * sequence + 1]
            store.flush([write(sequence, LogPoints((block(names, steps, [steps] * 300),)), attempt=1)])
        assert store.flush([rewind(1, 3, attempt=2)]).stale == {RUN}
        monkeypatch.setattr("tracker_server.store.totals_reader._MOST_POINTS", 401)
        monkeypatch.setattr("tracker_server.store.totals_reader._GATHERED_POINTS", 7)
        before = store.read_run(RUN, "", 1000)
        pieces = 1
        while store.refresh_totals(RUN):
            pieces += 1
        assert pieces == 3
        after = store.read_run(RUN, "", 1000)
        assert after.metrics == before.metrics
        assert {(metric.totals.count, metric.totals.last and metric.totals.last[:4]) for metric in after.metrics} == {
            (2, (3, T, "writer-0123456789", 1))
        }

    def test_a_consumer_that_remembers_rows_sees_what_a_rewind_and_a_refresh_changed(self, store: Store) -> None:
        for sequence in range(1, 4):
            store.flush([write(sequence, points([sequence], [1.0]), attempt=1)])
        store.flush([rewind(1, 1, attempt=3)])
        store.flush([write(4, points([0, 9], [1.0, 1.0]), attempt=1)])
        store.refresh_totals(RUN)
        store.flush([write(2, points([2], [1.0]), attempt=3, writer=OTHER)])
        assert [metric.totals.count for metric in store.read_run(RUN, "", 9).metrics] == [3]
        assert store.stale_runs(10) == []

    # ------------------------------------------------------------ points without a step

    @pytest.mark.parametrize("refreshed", [False, True])
    @pytest.mark.parametrize("together", [False, True])
    def test_a_point_without_a_step_follows_the_live_ones(self, store: Store, refreshed: bool, together: bool) -> None:
        store.flush([write(1, points(range(10), [0.5] * 10), attempt=1)])
        back, following = rewind(1, 4, attempt=2), write(2, LogNext("m", T, 9.0), attempt=2, writer=OTHER)
        late = write(2, points([12], [0.5]), attempt=1)
        for batch in [[back, following, late]] if together else [[back], [late], [following]]:
            store.flush(batch)
            if refreshed:
                store.refresh_totals(RUN)
        store.flush([write(3, LogNext("m", T, 10.0), attempt=2, writer=OTHER)])
        assert read_series(store, RUN, "m").steps.tolist() == [0, 1, 2, 3, 4, 5, 6]

    def test_a_point_without_a_step_follows_the_live_ones_across_attempts_and_negative_steps(
        self, store: Store
    ) -> None:
        store.flush([write(1, points([-9, -8], [0.5, 0.5]), attempt=1)])
        store.flush([write(2, LogNext("m", T, 1.0), attempt=1)])
        store.flush([write(3, points([-8], [2.0]), attempt=2), write(4, LogNext("m", T, 3.0), attempt=2)])
        assert points_of(read_series(store, RUN, "m")) == [(-9, T, "0.5"), (-8, T, "2.0"), (-7, T, "3.0")]

    def test_a_point_without_a_step_after_everything_was_rewound_is_the_first(self, store: Store) -> None:
        store.flush([write(1, points([0, 1], [0.5, 0.5]), attempt=1)])
        store.flush([rewind(1, -1, attempt=2)])
        store.flush([write(2, LogNext("m", T, 1.0), attempt=2, writer=OTHER)])
        assert points_of(read_series(store, RUN, "m")) == [(0, T, "1.0")]

    # ------------------------------------------------------------ changes from outside

    def test_what_a_person_says_beats_every_attempt_and_is_no_sign_of_life(self, store: Store) -> None:
        by_person = write(1, outside({"name": "theirs"}, at=T), accepted=T + 90_000, writer=OTHER)
        by_run = [
            write(1, start(name="its own", at=T + 500), attempt=10**12),
            write(2, update(T + 900, {"name": "its own again"}), attempt=10**12),
        ]
        for number, order in enumerate(itertools.permutations([by_person, *by_run])):
            run = f"run {number}"
            for one in order:
                store.flush([replace(one, scope_id=run)])
            found = store.read_run(run, "", 1)
            assert (found.run.name, found.run.attempt, found.run.last_seen_ms) == ("theirs", 10**12, T)
            assert [attempt.attempt for attempt in found.attempts] == [10**12]

    def test_a_change_of_a_run_that_nobody_started_makes_it_and_shows_until_it_starts(self, store: Store) -> None:
        store.flush([write(1, outside({"notes": "n"}), accepted=T + 7)])
        found = store.read_run(RUN, "", 1)
        assert [(one.attempt, one.started_ms) for one in found.attempts] == [(0, T + 7)]
        store.flush([write(2, points([1], [1.0]), accepted=T + 9)])
        found = store.read_run(RUN, "", 1)
        assert [(one.attempt, one.started_ms) for one in found.attempts] == [(0, T + 9)]
        assert found.run.created_ms == T + 7
        store.flush([write(1, start(at=T + 20), attempt=5, writer=OTHER)])
        assert [one.attempt for one in store.read_run(RUN, "", 1).attempts] == [0, 5]

    def test_an_attempt_is_stopped_only_if_it_was_heard_of_before_and_until_it_is_taken_back(
        self, store: Store
    ) -> None:
        def stop(sequence: int, at: int, *, withdraw: bool = False) -> Write:
            return write(
                sequence, outside({"stop_requested": not withdraw, "stop_reason": "" if withdraw else "r"}, at=at)
            )

        store.flush([stop(1, T)])
        # Nobody has heard of an attempt of it.
        assert store.runs_to_stop() == {}
        store.flush([write(1, points([1], [1.0]), accepted=T + 1, writer=OTHER)])
        assert store.runs_to_stop() == {}
        store.flush([stop(2, T + 2)])
        assert store.runs_to_stop() == {RUN: 0}
        run = store.read_run(RUN, "", 1).run
        assert (run.is_to_stop, run.stop_reason) == (True, "r")
        store.flush([write(1, RewindRun(T + 3, 5), attempt=7, accepted=T + 3, writer="writer-of-attempt-7")])
        assert store.runs_to_stop() == {}
        assert not store.read_run(RUN, "", 1).run.is_to_stop
        store.flush([stop(3, T + 4)])
        assert store.runs_to_stop() == {RUN: 7}
        store.flush([stop(5, T + 6, withdraw=True), stop(4, T + 5)])
        assert store.runs_to_stop() == {}

    def test_keys_of_changes_from_outside_survive_the_database(self, store: Store) -> None:
        store.flush([write(1, outside({"name": "later"}, at=T + 5))])
        store.flush([write(2, update(T + 9, {"name": "of an attempt"}), attempt=FROM_OUTSIDE - 1)])
        store.flush([write(3, outside({"name": "earlier"}, at=T + 4))])
        assert store.read_run(RUN, "", 1).run.name == "later"
