"""Fewer points of the same shape: no peak disappears."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracker_server.model.downsample import downsample
from tracker_server.model.points import Floats

values = st.lists(
    st.floats(-5, 5).map(round).map(float) | st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 1e308, -1e308, 5e-324]),
    max_size=80,
)


@given(values, st.integers(4, 90))
@example([1.0, 2.0, 3.0, 4.0, 5.0], 4)
@example([np.nan] * 5, 4)
@example([np.nan, 1.0, np.inf, -1.0, np.nan, 5.0], 5)
def test_every_bucket_keeps_its_peaks_and_the_whole_its_ends(series: list[float], max_points: int) -> None:
    data = np.array(series, np.float64)
    kept = downsample(data, max_points)
    if len(series) <= max_points:
        assert kept is None
        return
    assert kept is not None
    chosen = kept.tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= max_points
    assert chosen[0] == 0
    assert chosen[-1] == len(series) - 1
    for start, stop in bucket_bounds(data, max_points):
        part = data[start:stop]
        inside = data[[at for at in chosen if start <= at < stop]]
        finite = part[np.isfinite(part)]
        if len(finite):
            kept_finite = inside[np.isfinite(inside)]
            assert kept_finite.min() == finite.min()
            assert kept_finite.max() == finite.max()
        odd = [start + at for at in np.flatnonzero(~np.isfinite(part)).tolist()]
        if odd and max_points > 4:
            assert odd[0] in chosen


def bucket_bounds(data: Floats, max_points: int) -> list[tuple[int, int]]:
    """Equal counts, as many as leave room for what each keeps."""
    each = 2 if np.isfinite(data).all() else 3
    count = max(1, (max_points - 2) // each)
    starts = [bucket * len(data) // count for bucket in range(count)]
    return list(zip(starts, [*starts[1:], len(data)], strict=True))


def test_a_million_points_keep_a_single_spike_and_a_single_nan() -> None:
    data = np.sin(np.arange(1_000_000) / 1000)
    data[123_456], data[654_321], data[777_777] = 50.0, -50.0, np.nan
    kept = downsample(data, 1000)
    assert kept is not None
    assert {123_456, 654_321, 777_777} <= set(kept.tolist())
    assert len(kept) <= 1000


def test_it_uses_the_room_it_has() -> None:
    kept = downsample(np.random.default_rng(0).random(100_000), 1000)
    assert kept is not None
    assert len(kept) >= 990


@pytest.mark.parametrize("max_points", [3, 0, -1])
def test_less_than_four_is_refused(max_points: int) -> None:
    with pytest.raises(ValueError, match="at least 4"):
        downsample(np.zeros(10), max_points)
