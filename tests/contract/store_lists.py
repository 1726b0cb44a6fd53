"""What a store promises of lists and summaries: every item once, newest first, and numbers as a plain count gives them."""

import math
import random

import pytest

from tests.contract.store_writes import (
    COMPLETED,
    DAY,
    FAILED,
    T,
    block,
    complete,
    points,
    start,
    update_experiment,
    write,
)
from tracker_server.model.writes import LogPoints
from tracker_server.store.experiment_reader import dashboard_stats
from tracker_server.store.run_list import RunPlace, RunQuery
from tracker_server.store.store import Store, now_ms


def _ids(store: Store, query: RunQuery, after: RunPlace | None = None, size: int = 100) -> list[str]:
    return [run.record.run_id for run in store.find_runs(query, after, size)[0]]


class ListsContract:
    """The part of the battery about lists and summaries."""

    @pytest.mark.parametrize("size", [1, 2, 3, 10])
    def test_runs_are_listed_newest_first_in_pages_also_with_equal_times(self, store: Store, size: int) -> None:
        batch = [write(1, start("exp"), run=f"r{i}", accepted=T + i // 4) for i in range(10)]
        store.flush([*batch, write(1, start("other"), run="x", accepted=T + 1)])
        listed: list[str] = []
        after = None
        while page := store.find_runs(RunQuery("exp"), after, size)[0]:
            listed += [run.record.run_id for run in page]
            after = page[-1].place
        assert listed == ["r9", "r8", "r7", "r6", "r5", "r4", "r3", "r2", "r1", "r0"]

    def test_runs_of_all_experiments_are_listed_together(self, store: Store) -> None:
        store.flush([write(1, start(f"exp {i % 3}"), run=f"r{i}", accepted=T + i) for i in range(7)])
        assert _ids(store, RunQuery()) == [f"r{i}" for i in range(6, -1, -1)]
        assert _ids(store, RunQuery(), RunPlace("r3", T + 3), 2) == ["r2", "r1"]
        assert _ids(store, RunQuery("none")) == []

    def test_runs_are_filtered_by_status(self, store: Store) -> None:
        for i, status in enumerate([None, COMPLETED, FAILED, COMPLETED, 5]):
            body = start("exp") if status is None else complete(experiment="exp", status=status)
            store.flush([write(1, body, run=f"r{i}")])
        assert _ids(store, RunQuery("exp", [COMPLETED])) == ["r3", "r1"]
        assert _ids(store, RunQuery("exp", {1, FAILED})) == ["r2", "r0"]
        assert _ids(store, RunQuery("exp", [COMPLETED]), RunPlace("r3", T)) == ["r1"]
        assert store.summarize("exp", "", 1).run_counts == [(1, 1), (2, 2), (3, 1), (5, 1)]

    @pytest.mark.parametrize("size", [1, 3, 10])
    def test_experiments_are_listed_newest_first_in_pages_also_with_equal_times(self, store: Store, size: int) -> None:
        store.flush([write(1, start(f"e{i}"), run=f"r{i}", accepted=T + i // 3) for i in range(7)])
        store.flush([write(1, start("e2"), run="more"), write(1, points([1], [1.0]), run="in default")])
        listed: list[tuple[str, int]] = []
        after = None
        while page := store.list_experiments(after, size):
            listed += [(experiment.experiment_id, experiment.run_count) for experiment in page]
            after = (page[-1].created_ms, page[-1].experiment_id)
        assert listed == [("e6", 1), ("e5", 1), ("e4", 1), ("e3", 1), ("e2", 2), ("e1", 1), ("e0", 1), ("default", 1)]

    def test_a_summary_of_many_runs_is_a_plain_recomputation(self, store: Store) -> None:
        source = random.Random(3)
        choices = [math.nan, math.inf, -math.inf, 1e308, -1e308, 1e290, 5e-324, 0.0, 1.0, 2.0]
        values: dict[str, dict[str, float]] = {"a": {}, "b": {}, "c": {}, "only nan": {}}
        batch = []
        for i in range(60):
            run = f"r{i:02}"
            sequence = 0
            for name in ("a", "b", "c"):
                if source.random() < 0.2:
                    continue
                last = source.choice([*choices, source.uniform(-1, 1)])
                sequence += 1
                batch.append(write(sequence, points([0, 1], [99.0, last], name=name), run=run))
                values[name][run] = last
            if source.random() < 0.5:
                finals = {"b": source.choice(choices), "only nan": math.nan}
                batch.append(write(sequence + 1, complete(finals), run=run))
                values["b"][run], values["only nan"][run] = finals["b"], math.nan
        store.flush(batch)
        summary = store.summarize("default", "", 100)
        assert [metric.name for metric in summary.metrics] == sorted(values)
        for metric in summary.metrics:
            of_runs = values[metric.name]
            finite = {run: value for run, value in of_runs.items() if math.isfinite(value)}
            assert metric.run_count == len(of_runs)
            assert metric.non_finite_run_count == len(of_runs) - len(finite)
            if not finite:
                assert (metric.min, metric.max, metric.mean) == (None, None, None)
                continue
            assert metric.min == min((value, run) for run, value in finite.items())
            # Of runs with the same value, the first by id.
            highest = max(finite.values())
            assert metric.max == (highest, min(run for run, value in finite.items() if value == highest))
            expected = math.fsum(value / len(finite) for value in finite.values())
            assert metric.mean == pytest.approx(expected, rel=1e-9, abs=1e-9 * max(map(abs, finite.values())))
        assert summary.experiment.run_count == sum(count for _, count in summary.run_counts)
        newest = sorted({one.scope_id for one in batch}, reverse=True)[:10]
        assert [run.run_id for run in summary.newest_runs] == newest

    def test_the_mean_of_huge_values_stays_a_number(self, store: Store) -> None:
        store.flush([write(1, points([0], [1e308]), run=f"r{i}") for i in range(5)])
        (metric,) = store.summarize("default", "", 10).metrics
        assert metric.mean == pytest.approx(1e308, rel=1e-12)
        assert (metric.min, metric.max) == ((1e308, "r0"), (1e308, "r0"))

    @pytest.mark.parametrize("others", [0, 1_000], ids=["most of all there is", "a small part of it"])
    def test_an_extreme_is_the_first_run_that_has_it_however_many_there_are(self, store: Store, others: int) -> None:
        runs = [f"r{number:02}" for number in range(60)]
        names = [f"m{number}" for number in range(others)]
        other = LogPoints((block(names, [1], [[-5.0]] * others),) if names else ())
        batch = [write(1, start("other"), run="x"), write(2, other, run="x")]
        for number, run in enumerate(runs):
            values = [[7.0], [float(number // 20)], [-float(number)], [-0.0 if number % 3 else 0.0]]
            batch.append(write(1, start("exp"), run=run))
            batch.append(write(2, LogPoints((block(["all", "late", "one", "zero"], [1], values),)), run=run))
        store.flush(batch)
        found = {metric.name: (metric.min, metric.max) for metric in store.summarize("exp", "", 10).metrics}
        assert found == {
            "all": ((7.0, "r00"), (7.0, "r00")),
            "late": ((0.0, "r00"), (2.0, "r40")),
            "one": ((-59.0, "r59"), (0.0, "r00")),
            "zero": ((0.0, "r00"), (0.0, "r00")),
        }

    def test_a_summary_lists_its_metrics_in_pages(self, store: Store) -> None:
        names = ["B", "a", "é", "𝄞", "z"]
        store.flush([write(i + 1, points([1], [float(i)], name=name)) for i, name in enumerate(names)])
        listed: list[str] = []
        while True:
            summary = store.summarize("default", listed[-1] if listed else "", 2)
            listed += [metric.name for metric in summary.metrics]
            assert all(metric.run_count == 1 for metric in summary.metrics)
            if not summary.more_metrics:
                break
        assert listed == sorted(names)

    def test_an_experiment_without_runs_has_an_empty_summary(self, store: Store) -> None:
        store.flush([write(1, update_experiment(T, {"notes": "n"}), run="exp")])
        summary = store.summarize("exp", "", 10)
        assert (summary.run_counts, summary.metrics, summary.newest_runs) == ([], [], [])
        assert (summary.experiment.notes, summary.experiment.run_count) == ("n", 0)

    def test_the_dashboard_counts_by_the_utc_day(self, store: Store) -> None:
        midnight = T // DAY * DAY
        ends = [midnight - 1, midnight, midnight + DAY - 1, midnight + DAY]
        store.flush([write(1, complete(at=end, experiment="e"), run=f"r{end}") for end in ends])
        store.flush([write(1, complete(at=midnight, status=FAILED), run="failed"), write(1, start(), run="runs")])
        with store._snapshot() as connection:
            for moment in (midnight, midnight + DAY - 1):
                stats = dashboard_stats(connection, moment)
                assert (stats.total_experiments, stats.total_runs) == (2, 6)
                assert (stats.active_runs, stats.runs_completed_today, stats.read_ms) == (1, 2, moment)

    def test_an_empty_store_has_nothing_and_says_so(self, store: Store) -> None:
        before = now_ms()
        stats = store.dashboard_stats()
        assert (stats.total_experiments, stats.total_runs, stats.active_runs, stats.runs_completed_today) == (0,) * 4
        assert before <= stats.read_ms <= now_ms()
        assert _ids(store, RunQuery()) == []
        assert store.list_experiments(None, 10) == []
        assert store.runs_to_stop() == {}
        assert store.stale_runs(10) == []
        assert store.applied([], experiments=False) == {}
