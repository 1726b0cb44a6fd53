"""Merged chunks: every point in order, with where it came from, and cut where nothing is torn apart."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracker_server.model.digests import digest_rows
from tracker_server.model.merging import Merged, cut_merged, merge_parts
from tracker_server.model.origins import decode_origins, encode_origins
from tracker_server.model.points import Floats, Ints


@dataclass
class Chunk:
    steps: Ints
    times: Ints
    values: Floats
    origins: bytes


Point = tuple[int, int, int, int, float]
"""Step, time, writer number, sequence, value."""
IDS = {1: "b", 2: "a", 3: "c"}


def chunk(points: list[Point]) -> Chunk:
    steps, times, writers, sequences, values = zip(*points, strict=True)
    origins = encode_origins(np.array(writers, np.int64), np.array(sequences, np.int64))
    return Chunk(np.array(steps, np.int64), np.array(times, np.int64), np.array(values, np.float64), origins)


def at(steps: list[int], times: list[int] | None = None) -> Merged:
    zeros = np.zeros(len(steps), np.int64)
    return Merged(np.array(steps, np.int64), np.array(times or zeros, np.int64), zeros.astype(float), zeros, zeros)


def in_order(point: Point) -> tuple[int, int, str, int]:
    return (point[0], point[1], IDS[point[2]], point[3])


points = st.tuples(
    st.integers(0, 3), st.integers(0, 1), st.sampled_from(sorted(IDS)), st.integers(1, 4), st.floats(-9, 9)
)


@given(st.lists(st.lists(points, min_size=1, max_size=6), min_size=1, max_size=6))
def test_merged_points_stand_in_order_and_keep_their_origins(parts: list[list[Point]]) -> None:
    ordered = [sorted(part, key=in_order) for part in parts]
    merged = merge_parts([chunk(part) for part in ordered], lambda: IDS)
    expected = sorted((point for part in ordered for point in part), key=in_order)
    found = [merged.steps, merged.times, merged.writers, merged.sequences, merged.values]
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected
    group = merged.chunk("run", 1, 0, len(expected))
    writers, sequences = decode_origins(group.origins)
    assert list(zip(writers.tolist(), sequences.tolist(), strict=True)) == [point[2:4] for point in expected]


def test_writers_are_asked_for_only_when_points_tie() -> None:
    def refuse() -> Mapping[int, str]:
        raise AssertionError

    merged = merge_parts([chunk([(5, 0, 1, 1, 1.0)]), chunk([(1, 0, 2, 1, 2.0), (5, 1, 2, 2, 3.0)])], refuse)
    assert merged.values.tolist() == [2.0, 1.0, 3.0]


def test_chunks_are_full_where_nothing_ties() -> None:
    assert cut_merged(at(list(range(10))), 4, 9) == ([(0, 4), (4, 8), (8, 10)], True)


def test_points_of_equal_step_and_time_stay_in_one_chunk() -> None:
    assert cut_merged(at([1, 2, 3, 4, 4, 5]), 4, 9) == ([(0, 3), (3, 6)], True)
    assert cut_merged(at([1, 2, 3, 4, 4, 5], [0, 0, 0, 0, 1, 0]), 4, 9) == ([(0, 4), (4, 6)], True)


def test_more_ties_than_a_chunk_holds_and_more_chunks_than_there_may_be_are_cut_anyhow() -> None:
    assert cut_merged(at([1, 4, 4, 4, 4, 4]), 4, 9) == ([(0, 4), (4, 6)], False)
    assert cut_merged(at([1, 1, 1, 2, 2, 2, 3, 3]), 4, 2) == ([(0, 4), (4, 8)], False)


@given(st.lists(st.sampled_from([1.0, 2.0, 0.0, -0.0, np.nan, np.inf, -np.inf, -3.0]), min_size=1, max_size=9))
def test_digests_name_the_first_of_each(values: list[float]) -> None:
    (digest,) = digest_rows(np.array([values]))
    finite = [index for index, value in enumerate(values) if np.isfinite(value)]
    odd = [index for index in range(len(values)) if index not in finite]
    assert digest.finite_count == len(finite)
    assert digest.min_index == min(finite, key=values.__getitem__, default=None)
    assert digest.max_index == max(finite, key=values.__getitem__, default=None)
    assert digest.non_finite_index == (odd[0] if odd else None)
    # A matrix of which some other row is not finite gives the same.
    assert digest_rows(np.array([values, [np.nan] * len(values)]))[0] == digest
