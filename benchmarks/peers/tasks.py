"""What runs in a tracker's own environment: `python -m benchmarks.peers.tasks DRIVER JSON` does tasks, one by one.

The JSON has "target" (see driver.Target) and "tasks", each an object with "task" and the arguments of that function here.
Each gives a line of JSON as soon as it is done; one that fails gives a line with "error", and the next is done. Nothing
but the standard library is imported here.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, TextIO

from benchmarks.peers import work
from benchmarks.peers.driver import Driver, NotOffered, Series, Target


def warm_up(driver: Driver, run: str) -> dict[str, Any]:
    """A run of one step, so that connections, schemas and imports are there."""
    recorder = driver.open(run)
    recorder.log(0, work.row(0, 1))
    recorder.finish()
    return {}


def bulk(driver: Driver, run: str, steps: int, metrics: int) -> dict[str, Any]:
    """Points a second from the first call until a reader sees all; and bytes a point."""
    before = driver.stored_bytes()
    rows = [work.row(step, metrics) for step in range(steps)]
    recorder = driver.open(run)
    began = time.perf_counter()
    recorder.bulk(rows)
    recorder.finish()
    seconds = time.perf_counter() - began
    return {
        "points": steps * metrics,
        "seconds": seconds,
        "bytes": driver.stored_bytes() - before,
    }


def loop(driver: Driver, run: str, metrics: int, seconds: float) -> dict[str, Any]:
    """What a log call takes in a training loop."""
    recorder = driver.open(run)
    took = work.training_loop(recorder.log, metrics, seconds)
    recorder.finish()
    return {"points": len(took) * metrics, "steps": len(took), **asdict(work.call_times(took))}


def kill(driver: Driver, run: str, metrics: int, seconds: float) -> dict[str, Any]:
    """A training loop, then SIGKILL as soon as its last call has returned."""
    recorder = driver.open(run)
    took = work.training_loop(recorder.log, metrics, seconds)
    os.write(_answers().fileno(), f'{{"task": "kill", "run": "{run}", "steps": {len(took)}}}\n'.encode())
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def count(driver: Driver, run: str, steps: int, metrics: int) -> dict[str, Any]:
    """How many of the points that were logged are there, with the right value."""
    return {"points": steps * metrics, "found": _found(driver, run, metrics)}


def count_killed(driver: Driver, run: str, steps: int, metrics: int, wait_seconds: float) -> dict[str, Any]:
    """The same of a run whose client was killed: after at most so long by itself, then after what the tracker offers."""
    deadline = time.monotonic() + wait_seconds
    while (found := _found(driver, run, metrics)) < steps * metrics and time.monotonic() < deadline:
        time.sleep(0.5)
    answer: dict[str, Any] = {"points": steps * metrics, "found": found}
    if found < steps * metrics and (recovery := driver.recover(run)):
        answer |= {"recovery": recovery, "found_then": _found(driver, run, metrics)}
    return answer


def _found(driver: Driver, run: str, metrics: int) -> int:
    driver.before_reads(run)
    names = work.names(metrics)
    series = driver.all_series(run, names)
    return sum(work.right_points(number, *series[name]) for number, name in enumerate(names) if name in series)


def summary(driver: Driver, run: str, steps: int, metrics: int, seconds: float) -> dict[str, Any]:
    """The time that a run's summary takes, each time checked to be right."""
    wanted = work.row(steps - 1, metrics)
    driver.before_reads(run)

    def read() -> None:
        got = driver.summary(run)
        assert got.keys() == wanted.keys(), f"the summary has {sorted(got)}"
        assert all(abs(got[name] - wanted[name]) < 1e-5 for name in wanted), f"the summary has {got}"

    median, reads = work.median_seconds(read, seconds)
    return {"median": median, "reads": reads}


def history(driver: Driver, run: str, steps: int, seconds: float) -> dict[str, Any]:
    """The time that all points of a metric take, and how many of them are right."""
    last: list[Series] = []
    driver.before_reads(run)

    def read() -> None:
        last[:] = [driver.series(run, "metric/0")]

    median, reads = work.median_seconds(read, seconds, least=2)
    return {"median": median, "reads": reads, "points": steps, "found": work.right_points(0, *last[0])}


_TASKS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    task.__name__: task for task in (warm_up, bulk, loop, kill, count, count_killed, summary, history)
}
_output: list[TextIO] = []


def _answers() -> TextIO:
    """What was standard output: trackers print to theirs."""
    if not _output:
        _output.append(os.fdopen(os.dup(1), "w", encoding="utf-8"))
        os.dup2(2, 1)
    return _output[0]


def main(name: str, spec: dict[str, Any]) -> None:
    """Does the tasks."""
    answers = _answers()
    module = importlib.import_module(f"benchmarks.peers.drivers.{name}")
    driver: Driver = module.driver(Target(**spec["target"]))
    for task in spec["tasks"]:
        arguments = {key: given for key, given in task.items() if key != "task"}
        line: dict[str, Any] = {"task": task["task"], "run": task["run"]}
        try:
            line |= _TASKS[task["task"]](driver, **arguments)
        except NotOffered as reason:
            line["not_offered"] = str(reason)
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises is to be reported, and the next task done
            line["error"] = f"{type(error).__name__}: {error}"[:400]
        print(json.dumps(line), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
