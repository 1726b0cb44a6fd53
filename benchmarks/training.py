"""One training process that calls run.log() as fast as it can, end to end: until finish() has returned and a read has all.

`python -m benchmarks.training ADDRESS RUN METRICS CALLS DIRECTORY` is that process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass

import tracker_client as tracker
from benchmarks.forms import Form
from tests.e2e.processes import ROOT

_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class TrainingRate:
    """Points a second."""

    logged: float
    """Until the last log() had returned."""
    readable: float
    """Until a read had them."""


def measure(form: Form, metrics: int, count: int) -> TrainingRate:
    """Logs so many calls; raises AssertionError when not exactly those points are stored."""
    run_id = f"bench-log-{metrics}-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="tracker-bench-", ignore_cleanup_errors=True) as directory:
        command = [
            sys.executable,
            "-m",
            "benchmarks.training",
            form.address,
            run_id,
            str(metrics),
            str(count),
            directory,
        ]
        environment = form.deployment.environment
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=2 * _SECONDS, check=False
        )
    assert done.returncode == 0, done.stderr
    logged, readable, stored = map(float, done.stdout.split())
    points = metrics * count
    assert stored == points, f"{stored:.0f} of {points} points are stored"
    return TrainingRate(points / logged, points / readable)


def main(address: str, run_id: str, metrics: int, count: int, directory: str) -> None:
    """The training process."""
    run = tracker.init("bench-log", run_id=run_id, server=address, directory=directory, capture=False)
    row: dict[str, object] = {f"metric/{number}": float(number) for number in range(metrics)}
    began = time.perf_counter()
    for step in range(count):
        run.log(row, step=step)
    logged = time.perf_counter() - began
    assert run.finish(timeout=_SECONDS)
    with tracker.TrackerClient(address, timeout=_SECONDS) as client:
        answer = client.get_run(run_id, write_tokens=[run.write_token])
    readable = time.perf_counter() - began
    print(logged, readable, sum(metric.count for metric in answer.metrics))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
