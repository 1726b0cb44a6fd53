"""`make bench`: its rows can be asked for by the names that its page lists, and a check that it makes can fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.noise import noise
from benchmarks.reads import check_peaks
from benchmarks.rows import GROUPS
from tracker_client.history import Series
from tracker_server.model.downsample import downsample

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_POINTS, _MOST = 5_000, 100


def test_the_page_lists_every_name_in_the_order_of_measuring() -> None:
    _, _, rest = _PAGE.read_text().partition("| name | what it measures | forms |\n|---|---|---|\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in rest.partition("\n\n")[0].splitlines()]
    listed = [(row[0], row[2]) for row in rows]
    assert listed == [(f"`{group.name}`", "full" if group.full_only else "both") for group in GROUPS]


def test_noise_depends_on_step_and_column_and_on_nothing_else() -> None:
    steps = np.arange(_POINTS)
    assert np.array_equal(noise(steps, 3)[1_000:2_000], noise(steps[1_000:2_000], 3))
    values = np.concatenate([noise(steps, 0), noise(steps, 1)])
    assert len(np.unique(values)) == 2 * _POINTS
    assert 0.45 < values.mean() < 0.55


def test_a_downsampled_series_passes_with_every_peak_and_fails_without_one() -> None:
    kept = downsample(noise(np.arange(_POINTS), 0), _MOST)
    assert kept is not None
    check_peaks(_series(kept), _POINTS, _MOST)
    without = np.delete(kept, 40)
    with pytest.raises(AssertionError, match=f"1 of {len(kept)} peaks are missing, the first at step {kept[40]}"):
        check_peaks(_series(without), _POINTS, _MOST)


def _series(steps: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Series:
    return Series("run", "metric/0", steps, steps, noise(steps, 0), _POINTS, downsampled=True)
