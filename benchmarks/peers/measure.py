"""Gives a tracker the work, in its own environment, and reads it back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.peers import venvs
from benchmarks.peers.driver import Target
from benchmarks.peers.results import Result, evaluate
from benchmarks.peers.servers import NotStarted, Served
from benchmarks.peers.trackers import Tracker, Way
from benchmarks.peers.venvs import Environment, NotInstalled
from benchmarks.peers.work import KILLED_AFTER_SECONDS, METRICS, Work
from deploy.servers.errors import ServerError
from tests.e2e.processes import ROOT

CACHE: Final = ROOT / ".cache" / "peers"
_WRITE_SECONDS: Final = 150.0
_READ_SECONDS: Final = 90.0
_LATE_SECONDS: Final = 3.0
"""How long points of a killed client may take to appear."""
_NOWHERE: Final = "http://127.0.0.1:9"
"""A proxy that is not there: what is not for loopback goes nowhere."""


def install(tracker: Tracker) -> Environment:
    """Its environment. Raises NotInstalled."""
    if tracker.ours:
        return Environment(Path(sys.executable), {})
    return venvs.ensure(CACHE / tracker.environment, tracker.requirements)


def measure(tracker: Tracker, work: Work, directory: Path, deadline: float) -> Iterator[Result]:
    """Each of its ways; what cannot be measured, and what is not done by the deadline (time.monotonic()), says why."""
    try:
        environment = install(tracker)
    except NotInstalled as reason:
        yield from _failed(tracker, {}, f"not installed: {reason}")
        return
    if time.monotonic() > deadline:
        yield from _failed(tracker, environment.versions, "not measured: the time was over")
        return
    variables = _variables(tracker, directory)
    done: set[str] = set()
    try:
        with tracker.serve(environment.python, directory, variables) as served:
            for way in tracker.ways:
                yield _way(
                    tracker, way, work, environment, {**variables, **served.environment}, served, directory, deadline
                )
                done.add(way.key)
    except (NotStarted, ServerError, AssertionError, OSError, psutil.Error) as reason:
        yield from _failed(tracker, environment.versions, f"not started: {reason}"[:400], done)


def _failed(
    tracker: Tracker, versions: Mapping[str, str], reason: str, done: set[str] | None = None
) -> Iterator[Result]:
    for way in tracker.ways:
        if way.key not in (done or ()):
            yield Result(tracker.key, tracker.name, way.key, way.how, tracker.ours, versions, missing={"": reason})


def _variables(tracker: Tracker, directory: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _NOWHERE)
    return {
        **kept,
        **proxies,
        "no_proxy": "127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
        "HOME": str(directory),
        **{name: text.format(directory=directory) for name, text in tracker.settings.items()},
    }


def _way(
    tracker: Tracker,
    way: Way,
    work: Work,
    environment: Environment,
    variables: Mapping[str, str],
    served: Served,
    directory: Path,
    deadline: float,
) -> Result:
    place = directory / way.key
    place.mkdir()
    target = Target(str(place), served.address, way.key, served.database)
    variables = {**variables, "TRACKIO_DIR": str(place)} if "TRACKIO_DIR" in variables else variables
    reader = Path(sys.executable) if tracker.read_by_us else environment.python

    def drive(python: Path, tasks: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
        left = min(seconds, deadline - time.monotonic())
        return drive_tasks(python, tracker.driver, target, _named(way, tasks), variables, left)

    tasks = write_tasks(work, way)
    processes = [[task] for task in tasks] if tracker.process_a_run else [tasks]
    written = [answer for tasks in processes for answer in drive(environment.python, tasks, _WRITE_SECONDS)]
    killed = drive(environment.python, kill_tasks(), _WRITE_SECONDS)
    read = drive(reader, read_tasks(work, way, [*written, *killed]), _READ_SECONDS)
    result = Result(tracker.key, tracker.name, way.key, way.how, tracker.ours, environment.versions)
    return evaluate(result, [{**one, "run": one["run"].partition(".")[2]} for one in (*written, *killed, *read)])


def _named(way: Way, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs of several ways are on one server."""
    return [{**task, "run": f"{way.key}.{task['run'].rpartition('.')[2]}"} for task in tasks]


def write_tasks(work: Work, way: Way) -> list[dict[str, Any]]:
    """What the writing process does."""
    tasks: list[dict[str, Any]] = [
        {"task": "warm_up", "run": "warm-up"},
        {"task": "bulk", "run": "bulk", "steps": work.bulk_steps, "metrics": METRICS},
        {"task": "loop", "run": "loop-1", "metrics": 1, "seconds": work.seconds},
        {"task": "loop", "run": "loop-10", "metrics": METRICS, "seconds": work.seconds},
    ]
    if way.long:
        tasks.append({"task": "bulk", "run": "long", "steps": work.long_steps, "metrics": METRICS})
    if way.reads:
        tasks.append({"task": "bulk", "run": "history", "steps": work.history_steps, "metrics": 1})
    return tasks


def kill_tasks() -> list[dict[str, Any]]:
    """What the process does that kills itself."""
    return [{"task": "kill", "run": "kill", "metrics": METRICS, "seconds": KILLED_AFTER_SECONDS}]


def read_tasks(work: Work, way: Way, written: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the reading process does: the killed run first, since what is late there counts."""
    logged = {answer["run"].rpartition(".")[2]: answer for answer in written if "error" not in answer}
    tasks: list[dict[str, Any]] = []
    if "kill" in logged:
        steps = logged["kill"]["steps"]
        tasks.append(
            {"task": "count_killed", "run": "kill", "steps": steps, "metrics": METRICS, "wait_seconds": _LATE_SECONDS}
        )
    if way.reads and "bulk" in logged:
        tasks.append(
            {"task": "summary", "run": "bulk", "steps": work.bulk_steps, "metrics": METRICS, "seconds": work.seconds}
        )
    if way.reads and "history" in logged:
        tasks.append({"task": "history", "run": "history", "steps": work.history_steps, "seconds": work.seconds})
    for run, metrics in (("bulk", METRICS), ("long", METRICS), ("loop-1", 1), ("loop-10", METRICS)):
        if run in logged:
            steps = logged[run].get("steps", logged[run]["points"] // metrics)
            tasks.append({"task": "count", "run": run, "steps": steps, "metrics": metrics})
    return tasks


def drive_tasks(
    python: Path, driver: str, target: Target, tasks: list[dict[str, Any]], variables: Mapping[str, str], seconds: float
) -> list[dict[str, Any]]:
    """Runs a driver, at most so long; an answer for each task, with "error" where it gave none.

    Its output goes to files: processes that a client leaves behind may hold on to them.
    """
    place = Path(target.directory)
    answers, errors = place / "answers", place / "errors"
    command = [str(python), "-m", "benchmarks.peers.tasks", driver]
    command.append(json.dumps({"target": asdict(target), "tasks": tasks}))
    environment = {**variables, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "generated")))}
    ended = "not measured: the time was over"
    if seconds > 0:
        with answers.open("wb") as out, errors.open("wb") as wrong:
            process = subprocess.Popen(
                command, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=wrong,
                start_new_session=True,
            )  # fmt: skip
            try:
                process.wait(seconds)
                ended = _last_line(errors) or f"its process ended with {process.returncode}"
            except subprocess.TimeoutExpired:
                ended = f"not done within {seconds:.0f} s"
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
    given = [json.loads(line) for line in answers.read_text().splitlines()] if seconds > 0 else []
    return [*given, *({"task": one["task"], "run": one["run"], "error": ended} for one in tasks[len(given) :])]


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""
