"""Frames: every point of every write once, each metric in one frame, in order."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.blocks import block, naive_points, placed_blocks
from tracker_server.model.points import PlacedBlock, build_frames, sort_order


@given(placed_blocks())
def test_frames_are_the_points_in_order_each_metric_in_one(placed: list[PlacedBlock]) -> None:
    frames = build_frames(placed)
    names = [name for frame in frames for name in frame.names]
    assert len(names) == len(set(names))
    expected = naive_points(placed)
    assert set(names) == set(expected)
    for frame in frames:
        for row, name in enumerate(frame.names):
            points = expected[name]
            assert frame.steps.tolist() == [point.step for point in points]
            assert frame.times.tolist() == [point.time for point in points]
            assert list(map(repr, frame.values[row].tolist())) == [repr(point.value) for point in points]
            sources = [frame.source_of(index) for index in range(len(points))]
            assert [(s.writer_id, s.sequence) for s in sources] == [(p.writer, p.sequence) for p in points]
            assert frame.last_source == sources[-1]


@given(placed_blocks(), st.integers(0, 2**32))
def test_the_order_of_writes_means_nothing(placed: list[PlacedBlock], seed: int) -> None:
    # The blocks of one write keep theirs.
    writes: dict[tuple[str, int], list[PlacedBlock]] = {}
    for one in placed:
        writes.setdefault((one.writer_id, one.sequence), []).append(one)
    groups = list(writes.values())
    random.Random(seed).shuffle(groups)
    shuffled = build_frames([one for group in groups for one in group])
    straight = build_frames(placed)
    rows = {name: (f.steps.tolist(), repr(f.values[i].tolist())) for f in straight for i, name in enumerate(f.names)}
    assert rows == {
        name: (f.steps.tolist(), repr(f.values[i].tolist())) for f in shuffled for i, name in enumerate(f.names)
    }


def test_metrics_logged_together_share_a_frame() -> None:
    placed = [PlacedBlock("w", n, block(["a", "b"], [n], [[1.0], [2.0]])) for n in (2, 1, 3)]
    (frame,) = build_frames(placed)
    assert frame.names == ("a", "b")
    assert frame.steps.tolist() == [1, 2, 3]
    assert frame.order is None


def test_points_of_other_frames_are_not_moved() -> None:
    placed = [
        PlacedBlock("w", 1, block(["a", "x"], [5, 4], [[1.0, 2.0], [3.0, 4.0]])),
        PlacedBlock("w", 2, block(["b", "x"], [0], [[9.0], [8.0]])),
    ]
    frames = {frame.names: frame.values.tolist() for frame in build_frames(placed)}
    assert frames == {("a",): [[2.0, 1.0]], ("b",): [[9.0]], ("x",): [[8.0, 4.0, 3.0]]}


def test_steps_in_order_are_not_sorted() -> None:
    times = np.zeros(3, np.int64)
    assert sort_order(np.array([-(2**63), 0, 2**63 - 1]), times) is None
    assert sort_order(np.array([1, 1, 1]), times) is None
    assert sort_order(np.array([1, 1]), np.array([2, 1])) is not None
    assert sort_order(np.array([], np.int64), np.array([], np.int64)) is None
