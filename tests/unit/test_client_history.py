"""Histories come out of their pages as arrays, with NumPy and without, every value as it was."""

from __future__ import annotations

import math
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracker.v1.resources_pb2 import MetricSeries
from tracker_client import history
from tracker_client.history import Series, SeriesBuilder, history_request

_ROOT = Path(__file__).resolve().parents[2]
_EDGES = [-(2**63), -1, 0, 2**63 - 1]
_VALUES = [math.nan, math.inf, -math.inf, -0.0]


def _series(*parts: MetricSeries) -> list[Series]:
    builder = SeriesBuilder()
    for part in parts:
        builder.add(part)
    return builder.finish()


def _part(run_id: str, name: str, steps: list[int], values: list[float], **more: Any) -> MetricSeries:
    return MetricSeries(run_id=run_id, name=name, steps=steps, times_unix_ms=steps, values=values, **more)


@pytest.fixture(params=["numpy", "array"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With NumPy, and as if it were not installed."""
    name = str(request.param)
    if name == "array":
        monkeypatch.setattr(history, "_numpy", lambda: None)
    return name


def test_series_that_come_in_parts_are_joined(library: str) -> None:
    first, second, empty = _series(
        _part("a", "loss", [1, 2], [0.5, 0.25], total_points=5),
        _part("a", "loss", [3], [0.125], total_points=5),
        _part("b", "loss", _EDGES, _VALUES, total_points=4, downsampled=True),
        _part("b", "none", [], []),
        _part("a", "loss", [4, 5], [1.0, 2.0], total_points=5),
    )
    assert (first.run_id, first.name, len(first), first.total_points, first.downsampled) == ("a", "loss", 5, 5, False)
    assert (list(first.steps), list(first.values)) == ([1, 2, 3, 4, 5], [0.5, 0.25, 0.125, 1.0, 2.0])
    assert (second.run_id, second.downsampled, list(second.steps), list(second.times_unix_ms)) == (
        "b",
        True,
        _EDGES,
        _EDGES,
    )
    assert [float(value).hex() for value in second.values] == [value.hex() for value in _VALUES]
    assert (empty.name, len(empty), empty.total_points) == ("none", 0, 0)
    for series in (first, second, empty):
        if library == "numpy":
            assert [each.dtype for each in (series.steps, series.times_unix_ms, series.values)] == [
                np.int64,
                np.int64,
                np.float64,
            ]
        else:
            assert all(isinstance(each, array) for each in (series.steps, series.times_unix_ms, series.values))


def test_a_data_frame_has_times_and_keeps_what_is_not_finite(library: str) -> None:
    (series,) = _series(_part("a", "loss", [0, 1_700_000_000_123, -62_135_596_800_000], [math.nan, math.inf, -0.0]))
    frame = series.to_pandas()
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "step": "int64",
        "time": "datetime64[ms, UTC]",
        "value": "float64",
    }, library
    assert [str(time) for time in frame["time"]] == [
        "1970-01-01 00:00:00+00:00",
        "2023-11-14 22:13:20.123000+00:00",
        "0001-01-01 00:00:00+00:00",
    ]
    assert [value.hex() for value in frame["value"]] == ["nan", "inf", "-0x0.0p+0"]


def test_one_name_needs_no_list() -> None:
    one = history_request("run", "loss", min_step=None, max_step=0, write_tokens=())
    several = history_request(["run"], ["loss"], min_step=None, max_step=0, write_tokens=())
    assert one == several
    assert (list(one.run_ids), one.HasField("min_step"), one.HasField("max_step")) == (["run"], False, True)


def test_neither_numpy_nor_pandas_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys, tracker_client.client, tracker_client.aio;"
        "print({'numpy', 'pandas', 'google.rpc'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=_ROOT,
        env={"PYTHONPATH": f"{_ROOT}:{_ROOT / 'generated'}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "set()"
