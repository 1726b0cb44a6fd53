"""A run that was logged one step at a time, after compaction: its bytes on disk, and how fast its history is read.

It is logged as fast as that goes. So that it is stored as one of a whole day is, in many small chunks, the consumer flushes
at very few points and merges them by itself, along the way and at the run's end; and the table of small chunks is vacuumed
once a second.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import chunks, ingest
from benchmarks.forms import Form, other_consumer
from benchmarks.noise import noise
from tracker_client import TrackerClient

METRICS = 10
_FLUSH_POINTS = 100
_BULK_STEPS = 480
"""A request of the run that it is held against."""
_TIMES = 25


@dataclass(frozen=True, slots=True)
class StepByStep:
    """What became of the run."""

    disk: Mapping[str, float]
    """Bytes a point of each table that has something of points."""
    written_chunks: int
    """Chunks that the flushes wrote of each metric, before they were merged."""
    seconds: float
    """To read every point of a metric."""
    bulk_seconds: float
    """The same of a run with the same points, logged in bulk."""
    buckets_seconds: float
    """To read a metric downsampled to 1,000 points."""
    bulk_buckets_seconds: float


def measure(form: Form, steps: int) -> StepByStep:
    """Logs so many steps of METRICS metrics, on an empty database; every point is held against what was sent."""
    stored = chunks.stored_points(form)
    assert not stored, f"{stored} points are stored already: bytes a point would be of others too"
    points = steps * METRICS
    run_id, bulk_id = (f"bench-{how}-{uuid.uuid4().hex[:8]}" for how in ("steps", "bulk"))
    with other_consumer(form, flush_points=str(_FLUSH_POINTS)), chunks.vacuumed(form):
        ingest.fill(form, run_id, METRICS, 1, points, values="noise")
        ingest.complete(form, run_id)
        chunks.wait_merged(form, run_id)
    written = chunks.written_chunks(form, run_id)
    sizes = chunks.disk_bytes(form)
    assert chunks.stored_points(form) == points
    ingest.fill(form, bulk_id, METRICS, _BULK_STEPS, points, values="noise")
    ingest.complete(form, bulk_id)
    chunks.wait_merged(form, bulk_id)
    with TrackerClient(form.address, timeout=60) as client:
        for one in (run_id, bulk_id):
            _check(client, one, steps)
        seconds, bulk_seconds = _read_by_turns(client, (run_id, bulk_id), steps, 0)
        buckets, bulk_buckets = _read_by_turns(client, (run_id, bulk_id), steps, 1_000)
    disk = {table: size / points for table, size in sizes.items()}
    return StepByStep(disk, written, seconds, bulk_seconds, buckets, bulk_buckets)


def _check(client: TrackerClient, run_id: str, steps: int) -> None:
    """Raises AssertionError unless every point is there, with its value, and no other."""
    wanted = np.arange(steps)
    for number in range(METRICS):
        (series,) = client.get_metric_history(run_id, f"metric/{number}")
        assert np.array_equal(series.steps, wanted)
        assert np.array_equal(series.values, noise(wanted, number))


def _read_by_turns(client: TrackerClient, run_ids: Sequence[str], steps: int, max_points: int) -> list[float]:
    """Median seconds of a read of one metric of each run, all in turn, so that whatever else goes on befalls all alike."""
    times: dict[str, list[float]] = {run_id: [] for run_id in run_ids}
    for turn in range(_TIMES):
        metric = f"metric/{turn % METRICS}"
        for run_id in run_ids:
            began = time.perf_counter()
            (series,) = client.get_metric_history(run_id, metric, max_points=max_points)
            times[run_id].append(time.perf_counter() - began)
            assert series.total_points == steps
            assert 0 < len(series) <= (max_points or steps)
    return [statistics.median(found) for found in times.values()]
