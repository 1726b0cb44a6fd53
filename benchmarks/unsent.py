"""What the client takes of a training machine's memory while nothing can be sent.

`python -m benchmarks.unsent DIRECTORY RUN METRICS CALLS` is the training process: it says "idle", and logs all that after a
line on its standard input.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

import tracker_client as tracker
from benchmarks.forms import Form
from deploy.servers.ports import free_port
from deploy.servers.processes import wait_until
from tests.e2e.processes import ROOT
from tests.e2e.training.jobs import sender_pids, sync_all

_MIB = 1024 * 1024
_SETTLE_SECONDS = 1.5
"""Until a sender has imported what it needs, and has tried to connect."""
_AFTER_SECONDS = 2.0
_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Of both processes, in MiB."""

    idle: float
    peak: float


def measure(form: Form, metrics: int, count: int) -> Memory:
    """Logs so many calls with no server in reach. Then all is sent to the form's own; raises AssertionError when not exactly
    those points are stored."""
    run_id = f"bench-unsent-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="tracker-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        command = [sys.executable, "-m", "benchmarks.unsent", name, run_id, str(metrics), str(count)]
        environment = form.deployment.environment | {"TRACKER_SERVER": f"127.0.0.1:{free_port()}"}
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        ) as training:
            memory = _watch(training, directory)
            # That its points have not arrived is what it says.
            _, complaints = training.communicate(timeout=_SECONDS)
        assert training.returncode == 0, complaints
        sync_all(directory, form.address)
    points = metrics * count
    with tracker.TrackerClient(form.address, timeout=_SECONDS) as client:
        assert wait_until(lambda: client.get_run(run_id).completeness.complete, _SECONDS, interval=0.1)
        stored = sum(metric.count for metric in client.get_run(run_id).metrics)
    assert stored == points, f"{stored} of {points} points are stored"
    return memory


def _watch(training: subprocess.Popen[str], directory: Path) -> Memory:
    """Has it log, and looks at its memory and its sender's all the time, and for a while after."""
    assert training.stdin is not None
    assert training.stdout is not None
    assert training.stdout.readline() == "idle\n"
    assert wait_until(lambda: bool(sender_pids(directory)), _SECONDS, interval=0.05)
    time.sleep(_SETTLE_SECONDS)
    processes = [psutil.Process(pid) for pid in (training.pid, *sender_pids(directory))]
    idle = [process.memory_info().rss for process in processes]
    peak = list(idle)
    print("log", file=training.stdin, flush=True)

    def look(until: Callable[[], bool]) -> None:
        while not until():
            for number, process in enumerate(processes):
                peak[number] = max(peak[number], process.memory_info().rss)
            time.sleep(0.01)

    logged = directory / "logged"
    look(logged.exists)
    assert logged.read_text() == "0", f"{logged.read_text()} points were dropped"
    end = time.monotonic() + _AFTER_SECONDS
    look(lambda: time.monotonic() > end)
    print("end", file=training.stdin, flush=True)
    return Memory(sum(idle) / _MIB, sum(peak) / _MIB)


def main(directory: str, run_id: str, metrics: int, count: int) -> None:
    """The training process."""
    run = tracker.init("bench-unsent", run_id=run_id, directory=directory, capture=False)
    row: dict[str, object] = {f"metric/{number}": float(number) for number in range(metrics)}
    run.log(row, step=0)
    print("idle", flush=True)
    sys.stdin.readline()
    for step in range(1, count):
        run.log(row, step=step)
    said = Path(directory) / "logged.new"
    said.write_text(str(run.dropped_points))
    said.rename(Path(directory) / "logged")
    sys.stdin.readline()
    run.finish(timeout=0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
