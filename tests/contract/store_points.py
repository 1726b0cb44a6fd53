"""What a store promises of points: every acknowledged one once, exactly as it came."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.contract.store_databases import execute
from tests.contract.store_state import points_of, read_all, read_run, read_series, read_state
from tests.contract.store_writes import RUN, WRITER, T, block, points, write
from tracker_server import limits
from tracker_server.model.records import MetricRecord
from tracker_server.model.writes import LogNext, LogPoints
from tracker_server.store import postgres_bulk
from tracker_server.store.store import Store

NASTY_NAMES = [
    *("𝄞" * 256, "{", "}", ",", '"', "\\", '\\"', "\\\\", "NULL", "null", "{a,b}", "a\nb\tc\r", " a ", "'", "%s", "%"),
    *("$1", "\\x41", "é", "e\u0301", "\u2028", ":name", "--", "\u00a0", "\ufeff", "\x01\x1f\x7f"),
]
LOWEST, HIGHEST = -(2**63), 2**63 - 1


def metric(store: Store, name: str = "m", run: str = RUN) -> MetricRecord:
    """One metric of a run."""
    return next(metric for metric in store.read_run(run, "", 1000).metrics if metric.name == name)


class PointsContract:
    """The part of the battery about points."""

    # ------------------------------------------------------------ exactly once

    def test_repetitions_within_a_batch_and_across_flushes_are_stored_once(self, store: Store) -> None:
        batch = [write(1, points([1], [1.0])), write(2, points([2], [2.0])), write(1, points([1], [1.0]))]
        first = store.flush(batch)
        assert (first.applied, first.duplicates, first.points) == (2, 1, 2)
        again = store.flush(batch)
        assert (again.applied, again.duplicates, again.points) == (0, 3, 0)
        assert read_all(store, RUN, ["m"])["m"] == [(1, T, "1.0"), (2, T, "2.0")]
        assert metric(store).totals.count == 2

    def test_the_same_sequence_of_another_writer_run_or_scope_is_another_write(self, store: Store) -> None:
        batch = [
            write(1, points([1], [1.0])),
            write(1, points([1], [2.0]), writer="other-writer-0000"),
            write(1, points([1], [3.0]), run="other"),
        ]
        assert store.flush(batch).applied == 3
        assert [value for _, _, value in read_all(store, RUN, ["m"])["m"]] == ["2.0", "1.0"]
        assert read_all(store, "other", ["m"])["m"] == [(1, T, "3.0")]

    def test_more_writers_than_one_query_asks_for_are_all_known_again(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres_bulk, "_KEYS_A_QUERY", 2)
        batch = [write(1, points([i], [0.5]), run=f"r{i % 3}", writer=f"writer-number-{i:06}") for i in range(7)]
        assert store.flush(batch).applied == 7
        assert store.flush(batch).duplicates == 7
        assert [len(read_all(store, run, ["m"])["m"]) for run in ("r0", "r1", "r2")] == [3, 2, 2]

    def test_a_repeated_batch_tells_of_the_same_cached_scopes(self, store: Store) -> None:
        batch = [write(1, points([1], [1.0]))]
        assert "experiment:default" in store.flush(batch).scopes
        assert "experiment:default" in store.flush(batch).scopes

    def test_an_empty_batch_is_nothing(self, store: Store) -> None:
        outcome = store.flush([])
        assert (outcome.applied, outcome.duplicates, outcome.points, outcome.stale) == (0, 0, 0, ())

    # ------------------------------------------------------------ legal but nasty

    @pytest.mark.parametrize(
        "values",
        [
            [1e308, 1e308],
            [1e308, 1e308, -1e308, -1e308],
            [math.nan, 1.0, math.nan],
            [math.nan],
            [math.inf, -math.inf, math.nan],
            [-0.0],
            [0.0, -0.0],
            [-0.0, 0.0],
            [5e-324, -5e-324, 5e-324],
            [2.2250738585072014e-308, 1.7976931348623157e308, 0.1],
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("split", [False, True], ids=["in one flush", "in a flush each"])
    def test_nasty_values_come_back_exactly(self, store: Store, values: list[float], split: bool) -> None:
        steps = range(len(values))
        writes = [write(i + 1, points([i], [value])) for i, value in zip(steps, values, strict=True)]
        for batch in [[one] for one in writes] if split else [writes]:
            store.flush(batch)
        assert read_all(store, RUN, ["m"])["m"] == [(i, T, repr(v)) for i, v in zip(steps, values, strict=True)]
        totals = metric(store).totals
        finite = [value for value in values if math.isfinite(value)]
        assert (totals.count, totals.finite_count) == (len(values), len(finite))
        assert totals.last is not None
        assert repr(totals.last.value) == repr(values[-1])
        if finite:
            assert totals.min is not None
            assert totals.max is not None
            assert repr(totals.min.value) == repr(min(finite, key=lambda v: (v, math.copysign(1, v))))
            assert repr(totals.max.value) == repr(max(finite, key=lambda v: (v, math.copysign(1, v))))
            assert totals.mean == pytest.approx(math.fsum(v / len(finite) for v in finite), rel=1e-12)
        else:
            assert (totals.min, totals.max, totals.mean) == (None, None, None)

    def test_every_bit_of_a_nan_comes_back(self, store: Store) -> None:
        bits = [0x7FF8000000000000, 0xFFF8000000000001, 0x7FF8DEADBEEF0000, 0x7FF0000000000001]
        values = np.array(bits, np.uint64).view(np.float64)
        body = LogPoints((block(["m"], [1, 2, 3, 4], [values.tolist()]),))
        body.blocks[0].values[0] = values
        store.flush([write(1, body)])
        part = read_series(store, RUN, "m")
        assert part.values.view(np.uint64).tolist() == bits

    @pytest.mark.parametrize(
        "steps",
        [
            [-(2**62), 2**62],
            [LOWEST, HIGHEST],
            [LOWEST],
            [HIGHEST],
            [LOWEST, LOWEST, 0, HIGHEST, HIGHEST],
            [0, 2**31 - 1],
            [0, 2**31],
            [-1, 2**31 - 1],
            [-(2**31), 0, 2**31],
        ],
        ids=repr,
    )
    def test_steps_however_far_apart_come_back_exactly(self, store: Store, steps: list[int]) -> None:
        store.flush([write(1, points(steps[::-1], [float(i) for i in range(len(steps))]))])
        assert [step for step, _, _ in read_all(store, RUN, ["m"])["m"]] == steps
        last = metric(store).totals.last
        assert last is not None
        assert last.step == steps[-1]

    @pytest.mark.parametrize(
        "times",
        [
            [limits.MIN_TIME_MS, limits.MAX_TIME_MS],
            [limits.MAX_TIME_MS, limits.MIN_TIME_MS],
            [T, T - 2**31, T + 2**31],
            [T + 2**31 - 1, T, T - 1],
            [-1, 0, 1],
        ],
        ids=repr,
    )
    def test_times_in_any_order_and_year_come_back_exactly(self, store: Store, times: list[int]) -> None:
        store.flush([write(1, points(range(len(times)), [0.5] * len(times), times=times))])
        assert [time for _, time, _ in read_all(store, RUN, ["m"])["m"]] == times

    @pytest.mark.parametrize("name", NASTY_NAMES, ids=ascii)
    def test_a_name_of_any_characters_comes_back_exactly(self, store: Store, name: str) -> None:
        store.flush([write(1, LogPoints((block([name, "m"], [1], [[0.5], [0.25]]),)))])
        store.flush([write(2, points([2], [1.5], name=name)), write(3, LogNext(name, T, 2.5))])
        assert [metric.name for metric in store.read_run(RUN, "", 10).metrics] == sorted([name, "m"])
        assert read_all(store, RUN, [name])[name] == [(1, T, "0.5"), (2, T, "1.5"), (3, T, "2.5")]

    def test_names_are_listed_by_code_point_page_by_page(self, store: Store) -> None:
        names = ["B", "a", "Z", "é", "z", "_", "𝄞", "\uffff", "a b", "a-b", "ab", "A" * 256]
        rows = [[float(i)] for i in range(len(names))]
        store.flush([write(1, LogPoints((block(names, [1], rows),)))])
        listed: list[str] = []
        while True:
            details = store.read_run(RUN, listed[-1] if listed else "", 5)
            listed += [metric.name for metric in details.metrics]
            if not details.more_metrics:
                break
        assert listed == sorted(names)

    def test_ids_of_any_printable_characters_come_back_exactly(self, store: Store) -> None:
        ids = ["𝄞" * 128, "a,b", '{"}', "\\", "NULL", "%s", "'; --", " "]
        store.flush([write(1, points([1], [1.0]), run=run, writer=f"{run}-{WRITER}") for run in ids])
        for run in ids:
            state = read_run(store, run)
            assert state is not None
            assert state["history"] == {"m": [(1, T, "1.0")]}
            assert list(state["writers"]) == [f"{run}-{WRITER}"]

    # ------------------------------------------------------------ order

    def test_ties_go_by_writer_and_sequence_whatever_the_order_of_flushes(self, store: Store) -> None:
        # Writers in the order of code points, which is none of: arrival, locale, length.
        writers = ["B" * 16, "a" * 16, "a" * 17, "é" * 16, "𝄞" * 16]
        writes = [
            write(sequence, points([5, 5], [sequence + 0.25, sequence + 0.5]), writer=writer)
            for writer in writers
            for sequence in (2, 10, 1)
        ]
        for one in writes[::-1]:
            store.flush([one])
        assert tied(store) == [s + part for _ in writers for s in (1, 2, 10) for part in (0.25, 0.5)]
        assert metric(store).totals.last == (5, T, "𝄞" * 16, 10, 10.5)
        other = [replace(one, scope_id="other") for one in writes]
        store.flush(other)
        assert tied(store, "other") == tied(store)
        assert metric(store, run="other").totals.last == metric(store).totals.last

    def test_time_comes_before_writer(self, store: Store) -> None:
        store.flush([write(1, points([5], [1.0], times=[T + 1]), writer="a" * 16)])
        store.flush([write(1, points([5], [2.0], times=[T]), writer="z" * 16)])
        assert tied(store) == [2.0, 1.0]
        last = metric(store).totals.last
        assert last is not None
        assert last.value == 1.0

    def test_points_of_one_write_on_one_step_keep_their_order_across_chunks(self, store: Store) -> None:
        total = 3 * limits.MAX_CHUNK_POINTS + 5
        values = [float(i) for i in range(total)]
        store.flush([write(1, points([7] * total, values)), write(2, points([8], [0.5]), attempt=2)])
        assert tied(store) == [*values, 0.5]
        execute(store, "UPDATE series SET stale = TRUE")
        store.refresh_totals(RUN, "m")
        store.flush([write(3, points([7] * total, values), run="alone")])
        execute(store, "UPDATE series SET stale = TRUE")
        before = metric(store, run="alone").totals
        store.refresh_totals("alone", "m")
        for totals in (before, metric(store, run="alone").totals):
            assert totals.last == (7, T, WRITER, 3, values[-1])

    def test_several_blocks_of_a_metric_in_one_write_keep_their_order(self, store: Store) -> None:
        blocks = (
            block(["m", "x"], [1, 1], [[1.0, 2.0], [0.0, 0.0]]),
            block(["m"], [1], [[3.0]]),
            block(["y", "m"], [1], [[0.0], [4.0]]),
        )
        store.flush([write(1, LogPoints(blocks))])
        assert tied(store) == [1.0, 2.0, 3.0, 4.0]
        assert metric(store).totals.count == 4

    # ------------------------------------------------------------ points without a step

    def test_a_point_without_a_step_gets_the_last_step_plus_1(self, store: Store) -> None:
        store.flush([write(1, LogNext("m", T, 1.0))])
        store.flush([write(2, LogNext("m", T, 2.0)), write(3, LogNext("m", T, 3.0))])
        store.flush([write(4, points([10], [4.0]))])
        store.flush([write(5, LogNext("m", T, 5.0)), write(6, points([20], [6.0])), write(7, LogNext("new", T, 0.0))])
        assert [step for step, _, _ in read_all(store, RUN, ["m"])["m"]] == [0, 1, 2, 10, 20, 21]
        assert [step for step, _, _ in read_all(store, RUN, ["new"])["new"]] == [0]

    def test_a_point_without_a_step_after_the_highest_step_stays_on_it(self, store: Store) -> None:
        store.flush([write(1, points([HIGHEST], [1.0]))])
        store.flush([write(2, LogNext("m", T, 2.0)), write(3, LogNext("m", T, 3.0))])
        assert [step for step, _, _ in read_all(store, RUN, ["m"])["m"]] == [HIGHEST] * 3

    # ------------------------------------------------------------ many

    def test_a_wide_batch_keeps_every_metric_apart(self, store: Store) -> None:
        names = [f"metric {i}" for i in range(300)]
        for step in range(3):
            rows = [[i + step / 4] for i in range(len(names))]
            store.flush([write(step + 1, LogPoints((block(names, [step], rows),)))])
        state = read_state(store, [RUN], [])["runs"][RUN]
        for i, name in enumerate(names):
            assert state["history"][name] == [(step, T, repr(i + step / 4)) for step in range(3)]
            assert state["metrics"][name]["count"] == 3


def tied(store: Store, run: str = RUN) -> list[float]:
    """The values of metric m in the order in which they are read: by step and time at least."""
    part = read_series(store, run, "m")
    assert all(one[:2] <= other[:2] for one, other in pairwise(points_of(part)))
    values: list[float] = part.values.tolist()
    return values
