"""What `run.log()` costs a training loop of 1,000 steps a second: `python -m benchmarks.log_call [--seconds N] [--json FILE]`.

Each loop is a process of its own, with a tracker that is up or with none. The baseline is an empty function, called with
the same arguments and measured in the same steps. `python -m benchmarks.log_call loop METRICS SECONDS` is such a process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import forms
from benchmarks.figures import Figure, machine, table, write_json
from tests.e2e.processes import ROOT

_STEP_SECONDS = 0.001
_WARM_STEPS = 200
_BARS = {1: 5.0, 10: 15.0}
"""Microseconds, of the median, by metrics a call."""
_P99_BAR = 60.0
_NOWHERE = "127.0.0.1:1"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a call, in microseconds."""

    median: float
    p99: float
    empty_median: float
    empty_p99: float
    dropped: int


def measure(server: str, metrics: int, seconds: float) -> Cost:
    """A training loop in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="tracker-bench-", ignore_cleanup_errors=True) as directory:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}
        paths = os.pathsep.join((str(ROOT), str(ROOT / "generated")))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.log_call", "loop", str(metrics), str(seconds)],
            cwd=ROOT,
            env={**kept, "PYTHONPATH": paths, "TRACKER_SERVER": server, "TRACKER_DIR": directory},
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=True,
        )
    return Cost(**json.loads(done.stdout))


def loop(metrics: int, seconds: float) -> Cost:
    """The training loop: in every step one call of each kind, and then a pause until the next step is due."""
    import tracker_client as tracker

    def empty(_: Mapping[str, object], step: int | None = None) -> None:
        """Does nothing."""

    run = tracker.init("benchmark", capture=False)
    names = [f"train/metric{number}" for number in range(metrics)]
    logged: list[int] = []
    nothing: list[int] = []
    clock = time.perf_counter_ns
    due = time.perf_counter()
    for step in range(_WARM_STEPS + int(seconds / _STEP_SECONDS)):
        row = dict.fromkeys(names, step * 0.5)
        began = clock()
        empty(row, step=step)
        middle = clock()
        run.log(row, step=step)
        ended = clock()
        nothing.append(middle - began)
        logged.append(ended - middle)
        due += _STEP_SECONDS
        time.sleep(max(0.0, due - time.perf_counter()))
    dropped = run.dropped_points
    run.finish(timeout=0)
    return Cost(*_microseconds(logged), *_microseconds(nothing), dropped)


def _microseconds(nanoseconds: list[int]) -> tuple[float, float]:
    """Median and 99th percentile, without the first steps."""
    ordered = sorted(nanoseconds[_WARM_STEPS:])
    return ordered[len(ordered) // 2] / 1000, ordered[len(ordered) * 99 // 100] / 1000


def figures(server: str, state: str, seconds: float) -> list[Figure]:
    """With a server in this state."""
    found = []
    for metrics, bar in _BARS.items():
        cost = measure(server, metrics, seconds)
        assert not cost.dropped, cost
        name = f"log() of {metrics} metric{'s' * (metrics > 1)}, server {state}"
        for what, value, empty, most in (
            ("median", cost.median, cost.empty_median, bar),
            ("p99", cost.p99, cost.empty_p99, _P99_BAR),
        ):
            found.append(Figure(f"{name}, {what}", value, "µs", "empty call", empty, f"{most:g} µs", value <= most))
    return found


def main() -> None:
    """Measures, and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the four loops")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with forms.embedded() as form:
        found = figures(form.address, "up", options.seconds)
    found += figures(_NOWHERE, "down", options.seconds)
    print(f"{machine()}\n\n{table(found)}")
    if options.json:
        write_json(found, options.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["loop"]:
        cost = loop(int(sys.argv[2]), float(sys.argv[3]))
        print(json.dumps({name: getattr(cost, name) for name in Cost.__slots__}))
    else:
        main()
