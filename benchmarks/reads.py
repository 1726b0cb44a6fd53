"""Reads that the cache has no answer to, and how soon a point is visible."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable

from benchmarks import ingest
from benchmarks.forms import Form
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client import TrackerClient

_TIMES = 5
_QUIET_SECONDS = 0.5


def history_seconds(form: Form, points: int, buckets: int) -> float:
    """Median time of a history of one series, downsampled."""
    run_id = f"bench-history-{uuid.uuid4().hex[:8]}"
    ingest.fill(form, run_id, columns=1, steps=50_000, points=points)
    with TrackerClient(form.address, timeout=120) as client:

        def read() -> None:
            (series,) = client.get_metric_history(run_id, "metric/0", max_points=buckets)
            assert series.total_points == points
            assert 0 < len(series.values) <= buckets

        return _median(read)


def visible_seconds(form: Form, count: int) -> tuple[float, float]:
    """Median and 99th percentile of the time from a write to the end of a read that shows it, the service being idle."""
    run_id = f"bench-visible-{uuid.uuid4().hex[:8]}"
    times = []
    with TrackerClient(form.address, timeout=30) as client:
        for step in range(count):
            # Idle means idle: a consumer that has just flushed waits a little for more.
            time.sleep(_QUIET_SECONDS)
            began = time.perf_counter()
            request = messages.LogMetricRequest(run_id=run_id, name="loss", value=0.5, step=step)
            token = client.log_metric(request).write_token
            assert client.get_run(run_id, write_tokens=[token]).metrics[0].count == step + 1
            times.append(time.perf_counter() - began)
    times.sort()
    return times[len(times) // 2], times[int(len(times) * 0.99)]


def _median(work: Callable[[], None]) -> float:
    work()
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
