"""What becomes of speed and memory when there is a lot: many runs, many points, a long queue.

`python -m benchmarks.scale ADDRESS EXPERIMENT RUNS METRICS` makes so many runs, each with a point of so many metrics.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass

import psutil

from benchmarks import ingest
from benchmarks.forms import Form
from tests.e2e.processes import ROOT
from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client import AsyncTrackerClient, TrackerClient
from tracker_client.config import to_config

_CALLERS = 32
_TIMES = 5
_PAGE = 100
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExperimentReads:
    """How long it takes to read a large experiment."""

    summary_seconds: float
    """GetSummary, past the cache."""
    list_seconds: float
    """A page of 100 runs, newest first."""
    ordered_seconds: float
    """One in the order of a metric."""
    found_seconds: float
    """One with conditions on a metric, on the config and on tags, in the order of another metric."""


def large_experiment(form: Form, runs: int, metrics: int) -> ExperimentReads:
    """Makes an experiment and reads it, past the cache. Each page is held against what it must have."""
    experiment_id = f"bench-large-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-m", "benchmarks.scale", form.address, experiment_id, str(runs), str(metrics)]
    environment = form.deployment.environment
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    summaries: list[float] = []
    lists: dict[str, list[float]] = {}
    pages = {
        "newest": ("", "", None),
        "ordered": ("", 'metrics."metric/3".last desc', range(runs - 1, -1, -1)),
        "found": (
            'metrics."metric/1".last >= 1.25 AND config.model.depth >= 4 AND tags:baseline',
            'metrics."metric/3".last',
            [n for n in range(runs) if n >= runs / 4 and _depth(n) >= 4 and _is_baseline(n)],
        ),
    }
    with TrackerClient(form.address, timeout=60) as client:
        change = messages.ExperimentChanges(notes="read past the cache")
        request = messages.UpdateExperimentRequest(experiment_id=experiment_id, changes=change)
        token = client.update_experiment(request).write_token
        while True:
            summary = client.get_summary(experiment_id, write_tokens=[token])
            if summary.experiment.run_count == runs and all(metric.run_count == runs for metric in summary.metrics):
                break
        assert len(summary.metrics) == metrics
        for _ in range(_TIMES):
            began = time.perf_counter()
            client.get_summary(experiment_id, write_tokens=[token])
            summaries.append(time.perf_counter() - began)
            for name, (condition, order, wanted) in pages.items():
                began = time.perf_counter()
                page = client.list_runs(
                    experiment_id, filter=condition, order_by=order, page_size=_PAGE, write_tokens=[token]
                )
                ids = [run.run_id for run in itertools.islice(page, _PAGE)]
                lists.setdefault(name, []).append(time.perf_counter() - began)
                assert len(ids) == min(_PAGE, runs if wanted is None else len(wanted))
                assert wanted is None or ids == [f"{experiment_id}-{number}" for number in wanted[:_PAGE]]
    return ExperimentReads(statistics.median(summaries), *(statistics.median(lists[name]) for name in pages))


def growth(form: Form, stored: int, points: int) -> tuple[float, float]:
    """Points a second on what there is now, and after so many points more."""
    before = ingest.measure(form, 10, 1_000, points).readable
    ingest.measure(form, 10, 1_000, stored)
    return before, ingest.measure(form, 10, 1_000, points).readable


def consumer_mib(form: Form, points: int) -> float:
    """The most memory that a consumer takes which finds so many points waiting in the queues, in MiB."""
    consumer = form.deployment.consumer
    consumer.terminate()
    consumer.wait()
    run_id = f"bench-waiting-{uuid.uuid4().hex[:8]}"
    # It ends when the last read has all the points, so it is still at it when the consumer starts.
    with ingest.client(form, run_id, 10, 1_000, points) as process:
        assert process.stdout is not None
        process.stdout.readline()
        consumer.launch()
        seen, most = psutil.Process(consumer.pid), 0.0
        while process.poll() is None:
            most = max(most, seen.memory_info().rss / _MIB)
            time.sleep(0.02)
        assert process.returncode == 0
    return most


def server_mib(form: Form) -> float:
    """What the server takes now, in MiB."""
    return psutil.Process(form.deployment.server.pid).memory_info().rss / _MIB


def _depth(number: int) -> int:
    """Of a run's model."""
    return number % 8


def _is_baseline(number: int) -> bool:
    """Whether a run has the tag."""
    return number % 3 == 0


async def _make(address: str, experiment_id: str, runs: int, metrics: int) -> None:
    numbers = iter(range(runs))
    async with AsyncTrackerClient(address) as client:

        async def caller() -> None:
            for number in numbers:
                run_id = f"{experiment_id}-{number}"
                await client.start_run(
                    messages.StartRunRequest(
                        run_id=run_id,
                        experiment_id=experiment_id,
                        config=to_config({"model": {"depth": _depth(number)}, "lr": 1 / (number + 1)}),
                        tags=["baseline"] if _is_baseline(number) else [],
                    )
                )
                # Half of the metrics are the same in all runs, as settings are, and half are different in each.
                columns = [
                    data.MetricColumn(name=f"metric/{metric}", values=[metric + (metric % 2) * number / runs])
                    for metric in range(metrics)
                ]
                block = data.MetricBlock(steps=[number], columns=columns)
                await client.log_metrics(messages.LogMetricsRequest(run_id=run_id, blocks=[block]))

        await asyncio.gather(*(caller() for _ in range(_CALLERS)))


if __name__ == "__main__":
    asyncio.run(_make(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
