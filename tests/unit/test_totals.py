"""Totals against plain Python, and their merging."""

import math
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.blocks import Point, block, naive_points, placed_blocks
from tracker_server.model.points import Floats, Ints, PlacedBlock, build_frames
from tracker_server.model.totals import HUGE, HUGE_SCALE, NOTHING, Extreme, Last, Totals, column_totals, frame_totals


def signed(value: float) -> tuple[float, float]:
    """Sorts -0.0 below 0.0."""
    return value, math.copysign(1, value)


def assert_totals(totals: Totals, points: list[Point]) -> None:
    """Totals are those of these points, which are in order."""
    finite = [point for point in points if math.isfinite(point.value)]
    assert totals.count == len(points)
    assert totals.finite_count == len(finite)
    if points:
        last = points[-1]
        expected = Last(last.step, last.time, last.writer, last.sequence, last.value)
        assert repr(totals.last) == repr(expected)
    else:
        assert totals.last is None
    assert_extreme(totals.min, [(signed(p.value), p.step) for p in finite])
    assert_extreme(totals.max, [((-p.value, -math.copysign(1, p.value)), p.step) for p in finite], sign=-1)
    small = [Fraction(p.value) for p in finite if abs(p.value) <= HUGE]
    huge = [Fraction(p.value) * Fraction(HUGE_SCALE) for p in finite if abs(p.value) > HUGE]
    for total, parts in ((totals.sum, small), (totals.huge_sum, huge)):
        assert abs(Fraction(total) - sum(parts)) <= Fraction(1, 10**12) * sum(map(abs, parts))


def assert_extreme(extreme: Extreme | None, candidates: list[tuple[tuple[float, float], int]], sign: int = 1) -> None:
    if not candidates:
        assert extreme is None
        return
    (value, value_sign), step = min(candidates)
    assert extreme is not None
    assert signed(extreme.value) == (sign * value, sign * value_sign)
    assert extreme.step == step


@given(placed_blocks())
def test_totals_of_a_frame_are_those_of_its_points(placed: list[PlacedBlock]) -> None:
    expected = naive_points(placed)
    for frame in build_frames(placed):
        for name, totals in zip(frame.names, frame_totals(frame), strict=True):
            assert_totals(totals, expected[name])


@given(placed_blocks(), st.lists(st.none() | st.sampled_from([-(2**63), -1, 0, 1, 3, 2**63 - 1, 2**63]), min_size=3))
def test_superseded_points_do_not_count(placed: list[PlacedBlock], bounds: list[int | None]) -> None:
    expected = naive_points(placed)
    for frame in build_frames(placed):
        live = bounds[: len(frame.names)]
        for name, bound, totals in zip(frame.names, live, frame_totals(frame, live), strict=True):
            assert_totals(totals, [point for point in expected[name] if bound is None or point.step < bound])


@given(placed_blocks(), st.integers(0, 5))
def test_merging_the_parts_gives_the_whole_in_either_order(placed: list[PlacedBlock], cut: int) -> None:
    # Writes are the units: what came with one stays together.
    sequences = sorted({one.sequence for one in placed})[:cut]
    parts = [[one for one in placed if (one.sequence in sequences) is wanted] for wanted in (True, False)]
    expected = naive_points(placed)
    totals = [
        {
            name: total
            for frame in build_frames(part)
            for name, total in zip(frame.names, frame_totals(frame), strict=True)
        }
        if part
        else {}
        for part in parts
    ]
    for name, points in expected.items():
        one, other = totals[0].get(name, NOTHING), totals[1].get(name, NOTHING)
        assert_totals(one.merged(other), points)
        assert_totals(other.merged(one), points)


@given(placed_blocks())
def test_totals_made_anew_from_columns_are_the_same(placed: list[PlacedBlock]) -> None:
    expected = naive_points(placed)
    for frame in build_frames(placed):
        source = frame.last_source
        for row, totals in enumerate(frame_totals(frame)):
            anew = anew_from(frame.steps, frame.times, frame.values[row], source.writer_id, source.sequence)
            assert_totals(anew, expected[frame.names[row]])
            # Columns of a frame are added up in another order.
            assert repr(replace(anew, sum=totals.sum, huge_sum=totals.huge_sum)) == repr(totals)


def test_a_point_of_the_same_write_that_stands_later_is_the_last() -> None:
    one, other = (anew_from(*arrays([0, 0]), np.array([1.0, value]), "w", 1) for value in (2.0, 3.0))
    merged = one.merged(other)
    assert merged.last is not None
    assert merged.last.value == 3.0


def anew_from(steps: Ints, times: Ints, values: Floats, writer_id: str, sequence: int) -> Totals:
    """Totals of these points, the last of which is one of this writer's."""
    return column_totals(steps, values, Last(int(steps[-1]), int(times[-1]), writer_id, sequence, float(values[-1])))


def arrays(steps: list[int]) -> tuple[Ints, Ints]:
    return np.array(steps, np.int64), np.zeros(len(steps), np.int64)


finite = st.floats(allow_nan=False, allow_infinity=False)
LARGEST = sys.float_info.max


@given(st.lists(finite | st.sampled_from([1e308, -1e308, LARGEST, -LARGEST, 5e-324, 1e290, 1e291]), min_size=1))
@example([1e308, 1e308])
@example([LARGEST] * 3)
@example([LARGEST] * 11)
@example([5e-324])
@example([5e-324, 5e-324])
def test_the_mean_of_finite_values_is_finite_and_near_the_exact_one(values: list[float]) -> None:
    steps, times = arrays(list(range(len(values))))
    mean = anew_from(steps, times, np.array(values), "w", 1).mean
    assert mean is not None
    assert math.isfinite(mean)
    exact = sum(map(Fraction, values), Fraction(0)) / len(values)
    # Relative to what was added up, and never better than the smallest number there is.
    magnitude = sum((abs(Fraction(value)) for value in values), Fraction(0)) / len(values)
    assert abs(Fraction(mean) - exact) <= magnitude * Fraction(1, 10**12) + Fraction(5e-324)


@pytest.mark.parametrize("largest", [LARGEST, -LARGEST])
def test_the_mean_of_many_largest_numbers_stays_one(largest: float) -> None:
    totals = NOTHING
    for step in range(100):
        totals = totals.merged(anew_from(*arrays([step]), np.array([largest]), "w", step + 1))
        assert totals.mean is not None
        assert math.isfinite(totals.mean)


def test_nothing_has_no_mean() -> None:
    assert NOTHING.mean is None
    frame = build_frames([PlacedBlock("w", 1, block(["a"], [1, 2], [[math.nan, math.inf]]))])[0]
    (totals,) = frame_totals(frame)
    assert (totals.count, totals.finite_count, totals.mean, totals.min, totals.max) == (2, 0, None, None, None)
    assert frame_totals(frame, [-5]) == [NOTHING]
