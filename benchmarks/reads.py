"""Reads of a history that the cache has no answer to, each point that they give held against what was sent."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import chunks, ingest
from benchmarks.forms import Form
from benchmarks.noise import noise
from tracker_client import TrackerClient
from tracker_client.history import Series

_TIMES = 5
_METRIC = "metric/0"
_ZOOM = 1_000


@dataclass(frozen=True, slots=True)
class LongSeries:
    """How long it takes to draw a long series."""

    buckets_seconds: float
    """All of it, downsampled."""
    zoom_seconds: float
    """A thousandth of it, every point."""


def history_seconds(form: Form, points: int, buckets: int) -> float:
    """Median time of a history of one series, downsampled."""
    run_id = f"bench-history-{uuid.uuid4().hex[:8]}"
    ingest.fill(form, run_id, columns=1, steps=50_000, points=points)
    with TrackerClient(form.address, timeout=120) as client:

        def read() -> None:
            (series,) = client.get_metric_history(run_id, _METRIC, max_points=buckets)
            assert series.total_points == points
            assert 0 < len(series.values) <= buckets

        return _median(read)


def long_series(form: Form, points: int, most: int) -> LongSeries:
    """Median times for a compacted series of noise: all of it in at most so many points, and a thousandth from its middle.

    Raises AssertionError when the smallest or the largest point of a bucket is missing, or any point zoomed in.
    """
    run_id = f"bench-long-{uuid.uuid4().hex[:8]}"
    ingest.fill(form, run_id, columns=1, steps=50_000, points=points, values="noise")
    ingest.complete(form, run_id)
    chunks.wait_merged(form, run_id)
    first, last = points // 2, points // 2 + points // _ZOOM - 1
    drawn: list[Series] = []
    zoomed: list[Series] = []
    with TrackerClient(form.address, timeout=120) as client:

        def draw() -> None:
            drawn[:] = client.get_metric_history(run_id, _METRIC, max_points=most)

        def zoom() -> None:
            zoomed[:] = client.get_metric_history(run_id, _METRIC, min_step=first, max_step=last, max_points=10_000)

        seconds = LongSeries(_median(draw), _median(zoom))
    check_peaks(drawn[0], points, most)
    (series,) = zoomed
    assert not series.downsampled
    assert np.array_equal(series.steps, np.arange(first, last + 1))
    assert np.array_equal(series.values, noise(np.arange(first, last + 1), 0))
    return seconds


def check_peaks(series: Series, points: int, most: int) -> None:
    """As docs/contract.md and the protos have it: equal buckets, of each the smallest and the largest; the first; the last."""
    assert series.downsampled
    assert series.total_points == points
    assert len(series) <= most
    values = noise(np.arange(points), 0)
    buckets = (most - 2) // 2
    starts = np.arange(buckets + 1) * points // buckets
    peaks = {0, points - 1}
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        peaks |= {start + int(values[start:stop].argmin()), start + int(values[start:stop].argmax())}
    missing = peaks - set(series.steps.tolist())
    assert not missing, f"{len(missing)} of {len(peaks)} peaks are missing, the first at step {min(missing)}"
    assert np.array_equal(series.values, values[series.steps])


def _median(work: Callable[[], None]) -> float:
    work()
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
