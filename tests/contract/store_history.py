"""What a store promises of histories: pages of any size are the whole, ranges are exact, no peak disappears."""

import math
import random

import numpy as np
import pytest

from tests.contract.store_state import points_of, read_series
from tests.contract.store_writes import RUN, T, block, points, write
from tracker_server.errors import RunNotFound
from tracker_server.model.downsample import downsample
from tracker_server.model.records import Position
from tracker_server.model.writes import LogPoints
from tracker_server.store.history_reader import HistoryQuery
from tracker_server.store.point_reader import StepRange
from tracker_server.store.store import Store

OPEN = StepRange()
Series = dict[tuple[str, str], list[tuple[int, int, str]]]


def in_pages(store: Store, query: HistoryQuery) -> tuple[Series, int]:
    """What all pages together give, and how many there were."""
    found: Series = {}
    position: Position | None = Position()
    pages = 0
    totals: dict[tuple[str, str], int] = {}
    while position is not None:
        page = store.read_history(query, position)
        pages += 1
        size = 0
        for part in page.parts:
            key = (part.run_id, part.name)
            found.setdefault(key, []).extend(points_of(part))
            assert totals.setdefault(key, part.total_points) == part.total_points
            size += len(part.steps)
        assert size <= query.page_points
        assert size or page.following is None or not page.parts
        position = page.following
    assert not query.max_points or pages <= len(found) + 1
    return found, pages


def fill_nastily(store: Store, run: str = RUN) -> None:
    """Many points on one step, many small overlapping chunks, two attempts, far steps: a few hundred points."""
    source = random.Random(7)
    sequence = 0
    for _ in range(12):
        batch = []
        for _ in range(3):
            sequence += 1
            steps = [source.choice([-(2**62), 0, 5, 5, 5, 6, 7, 8, 2**62]) for _ in range(source.randint(1, 9))]
            values = [source.choice([math.nan, -0.0, 1e308, source.random()]) for _ in steps]
            times = [T + source.randint(0, 1) for _ in steps]
            attempt = source.choice([0, 1, 1, 2])
            batch.append(write(sequence, points(steps, values, times=times), attempt=attempt, run=run))
        store.flush(batch)


class HistoryContract:
    """The part of the battery about histories."""

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 19, 64, 1000])
    def test_pages_of_every_size_are_the_whole(self, store: Store, size: int) -> None:
        fill_nastily(store)
        whole = points_of(read_series(store, RUN, "m"))
        assert len(whole) > 40
        paged, pages = in_pages(store, HistoryQuery([RUN], ["m"], OPEN, 0, size))
        assert paged == {(RUN, "m"): whole}
        assert pages == max(1, math.ceil(len(whole) / size))

    @pytest.mark.parametrize("size", [1, 4, 10, 11])
    def test_pages_go_on_over_runs_and_metrics_in_the_order_asked_for(self, store: Store, size: int) -> None:
        for run in ("b", "a"):
            values = [[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]]
            store.flush([write(1, LogPoints((block(["y", "x"], [1, 2, 3], values),)), run=run)])
        query = HistoryQuery(["b", "a"], ["x", "none", "y"], OPEN, 0, size)
        found, _ = in_pages(store, query)
        assert list(found) == [(run, name) for run in ("b", "a") for name in ("x", "none", "y")]
        for run in ("a", "b"):
            assert found[run, "x"] == [(1, T, "3.5"), (2, T, "4.5"), (3, T, "5.5")]
            assert found[run, "y"] == [(1, T, "0.5"), (2, T, "1.5"), (3, T, "2.5")]
            assert found[run, "none"] == []

    @pytest.mark.parametrize(
        "steps",
        [
            StepRange(5, 5),
            StepRange(None, 4),
            StepRange(6, None),
            StepRange(-5, 7),
            StepRange(9, 10),
            StepRange(7, 3),
            StepRange(-(2**63), 2**63 - 1),
            StepRange(2**63 - 1, None),
            StepRange(None, -(2**63)),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("size", [3, 1000])
    def test_a_range_of_steps_is_exact_at_both_ends(self, store: Store, steps: StepRange, size: int) -> None:
        fill_nastily(store)
        low = -(2**63) if steps.low is None else steps.low
        high = 2**63 if steps.high is None else steps.high
        expected = [point for point in points_of(read_series(store, RUN, "m")) if low <= point[0] <= high]
        found, _ = in_pages(store, HistoryQuery([RUN], ["m"], steps, 0, size))
        assert found == {(RUN, "m"): expected}
        part = store.read_history(HistoryQuery([RUN], ["m"], steps, 0, size), Position()).parts[0]
        assert part.total_points == len(expected)

    @pytest.mark.parametrize("total", [1_023, 1_024, 4_096, 4_097, 10_000])
    def test_chunks_of_every_size_come_back_whole_and_in_pages(self, store: Store, total: int) -> None:
        values = np.random.default_rng(total).random(total).tolist()
        steps = list(range(total))
        store.flush([write(1, points(steps[::-1], values[::-1]))])
        store.flush([write(2, points([total // 2], [0.5], times=[T + 1]))])
        at = total // 2 + 1
        expected = [*values[:at], 0.5, *values[at:]]
        part = read_series(store, RUN, "m")
        assert part.values.tolist() == expected
        assert part.steps.tolist() == sorted([*steps, total // 2])
        found, _ = in_pages(store, HistoryQuery([RUN], ["m"], OPEN, 0, 3_001))
        assert found[RUN, "m"] == points_of(part)

    def test_chunks_are_no_larger_than_their_limit_and_about_equal(self, store: Store) -> None:
        store.flush([write(1, points(range(10_000), [0.5] * 10_000))])
        with store._writer.connect() as connection:
            query = "SELECT count FROM {} ORDER BY chunk_no"
            large = [row[0] for row in connection.exec_driver_sql(query.format("chunks"))]
            small = [row[0] for row in connection.exec_driver_sql(query.format("chunk_tail"))]
        assert large == [3_333, 3_333, 3_334]
        assert small == []

    @pytest.mark.parametrize("max_points", [4, 5, 10, 100])
    def test_downsampling_is_that_of_all_points_of_the_range(self, store: Store, max_points: int) -> None:
        fill_nastily(store)
        steps = StepRange(0, 8)
        whole = [point for point in points_of(read_series(store, RUN, "m")) if 0 <= point[0] <= 8]
        (part,) = store.read_history(HistoryQuery([RUN], ["m"], steps, max_points, 1000), Position()).parts
        kept = downsample(np.array([float(value) for _, _, value in whole]), max_points)
        expected = whole if kept is None else [whole[at] for at in kept.tolist()]
        assert points_of(part) == expected
        assert len(expected) <= max_points
        assert part.total_points == len(whole)
        assert part.downsampled is (kept is not None)

    def test_no_peak_disappears(self, store: Store) -> None:
        values = np.sin(np.arange(20_000) / 100)
        values[12_345], values[3_333], values[7_777] = 9.0, -9.0, math.nan
        for sequence in range(1, 21):
            steps = range((sequence - 1) * 1000, sequence * 1000)
            store.flush([write(sequence, points(steps, values[steps.start : steps.stop].tolist()))])
        (part,) = store.read_history(HistoryQuery([RUN], ["m"], OPEN, 100, 1000), Position()).parts
        assert {0, 12_345, 3_333, 7_777, 19_999} <= set(part.steps.tolist())
        assert len(part.steps) <= 100
        assert (part.total_points, part.downsampled) == (20_000, True)

    def test_downsampled_series_are_paged_whole(self, store: Store) -> None:
        names = [f"m{i}" for i in range(7)]
        rows = [[float(i + step) for step in range(50)] for i in range(7)]
        store.flush([write(1, LogPoints((block(names, range(50), rows),)))])
        found, pages = in_pages(store, HistoryQuery([RUN], names, OPEN, 10, 25))
        assert list(found) == [(RUN, name) for name in names]
        assert all(len(series) <= 10 for series in found.values())
        assert pages == 4

    def test_an_unknown_run_is_named_and_an_unknown_metric_is_empty(self, store: Store) -> None:
        store.flush([write(1, points([1], [1.0]))])
        with pytest.raises(RunNotFound, match="'gone'"):
            store.read_history(HistoryQuery([RUN, "gone"], ["m"], OPEN, 0, 10), Position())
        page = store.read_history(HistoryQuery([RUN], ["none"], OPEN, 0, 10), Position())
        assert [(part.name, len(part.steps), part.total_points) for part in page.parts] == [("none", 0, 0)]

    def test_points_that_arrive_between_pages_do_not_disturb_what_was_returned(self, store: Store) -> None:
        store.flush([write(1, points([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0]))])
        query = HistoryQuery([RUN], ["m"], OPEN, 0, 2)
        first = store.read_history(query, Position())
        assert first.following is not None
        store.flush([write(2, points([5], [5.0]))])
        second = store.read_history(query, first.following)
        assert second.following is not None
        third = store.read_history(query, second.following)
        steps = [step for page in (first, second, third) for part in page.parts for step in part.steps.tolist()]
        assert steps == [1, 2, 3, 4, 5]
