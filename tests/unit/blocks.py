"""Blocks of points for tests of the pure model."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from tracker_server.model.points import Block, PlacedBlock

NASTY_VALUES = [0.0, -0.0, 1.0, -1.0, 5e-324, 1e308, -1e308, 1e291, float("nan"), float("inf"), float("-inf"), 0.1]
NASTY_STEPS = [-(2**63), -(2**62), -1, 0, 0, 1, 2, 3, 2**62, 2**63 - 1]
NASTY_TIMES = [-62_135_596_800_000, 0, 1, 1_700_000_000_000, 253_402_300_799_999]


@dataclass(frozen=True)
class Point:
    """One value and all that decides its place."""

    step: int
    time: int
    writer: str
    sequence: int
    position: int
    """Within the write."""
    value: float


def block(names: list[str], steps: list[int], values: list[list[float]], times: list[int] | None = None) -> Block:
    """A block from lists; times are 0 where none are given."""
    return Block(
        tuple(names),
        np.array(steps, np.int64),
        np.array([0] * len(steps) if times is None else times, np.int64),
        np.array(values, np.float64).reshape(len(names), len(steps)),
    )


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """A block of a few metrics."""
    names = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True))
    count = draw(st.integers(1, 5))
    steps = draw(st.lists(st.sampled_from(NASTY_STEPS), min_size=count, max_size=count))
    times = draw(st.lists(st.sampled_from(NASTY_TIMES), min_size=count, max_size=count))
    row = st.lists(st.sampled_from(NASTY_VALUES), min_size=count, max_size=count)
    return block(names, steps, [draw(row) for _ in names], times)


@st.composite
def placed_blocks(draw: st.DrawFn) -> list[PlacedBlock]:
    """Blocks of several writes; a write may have several."""
    placed: list[PlacedBlock] = []
    for sequence in range(1, draw(st.integers(1, 5)) + 1):
        writer = draw(st.sampled_from(["v", "w", "é"]))
        placed += [PlacedBlock(writer, sequence, draw(blocks())) for _ in range(draw(st.integers(1, 3)))]
    return placed


def naive_points(placed: list[PlacedBlock]) -> dict[str, list[Point]]:
    """The points of each metric in their order, one by one."""
    points: dict[str, list[Point]] = {}
    for number, (writer, sequence, one) in enumerate(placed):
        for name, row in zip(one.names, one.values.tolist(), strict=True):
            for index, value in enumerate(row):
                place = number * 1000 + index
                point = Point(int(one.steps[index]), int(one.times[index]), writer, sequence, place, value)
                points.setdefault(name, []).append(point)
    for series in points.values():
        series.sort(key=lambda point: (point.step, point.time, point.writer, point.sequence, point.position))
    return points
