"""SIGTERM at random moments of a loop that does nothing but log: the process ends at once, and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.training.jobs import Job, get_run, list_runs, read_points
from tracker.v1 import resources_pb2 as data
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

SIGNALS = 40
# Forks of one process that has imported everything, see test_kills. The log loop is tight, so that most signals come in
# the middle of log(); a third of the runs fills segments quickly, a third is told more than points all the time.
_ZYGOTE = """
import gc, itertools, mmap, os, signal, sys, time
import tracker_client as tracker
import tracker_client.start

noted = memoryview(mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)).cast("q")

def train(number):
    noted[2 * number + 1] = 1
    run = tracker.init("signals", run_id=f"signals-{number}", capture=False)
    width = 100 if number % 3 == 0 else 1
    names = [f"m{i}" for i in range(width)]
    for step in range(20_000 // width if width > 1 else 60_000):
        run.log(dict.fromkeys(names, step * 0.5), step=step)
        noted[2 * number] = step + 1
        if number % 3 == 1 and step % 500 == 0:
            run.config["step"] = step
    noted[2 * number + 1] = 2
    time.sleep(30)

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        train(int(line))
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(-os.WTERMSIG(status), flush=True)
"""


@pytest.mark.timeout(120)
def test_sigterm_in_the_middle_of_anything_ends_the_run_as_preempted(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """40 times, at a random moment from just after the fork on. Each process ends by the signal within the time that the
    flush may take, with its run preempted and its writer closed, and every point whose log() had returned is there."""
    dice = random.Random(5)
    noted_path = tmp_path / "noted"
    noted_path.write_bytes(bytes(16 * SIGNALS))
    job = Job(tmp_path, _ZYGOTE, server=server)
    zygote = job.start(noted_path)
    slowest = 0.0
    for number in range(SIGNALS):
        zygote.tell(number)
        pid = int(zygote.line())
        time.sleep(dice.uniform(0.002, 0.1))
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        assert zygote.line() == str(-signal.SIGTERM)
        slowest = max(slowest, time.monotonic() - began)
    ended = zygote.wait()
    assert (ended.code, ended.errors) == (0, "")
    assert slowest < 7
    job.sync()
    numbers = memoryview(noted_path.read_bytes()).cast("q").tolist()
    known = list_runs(stub, "signals")
    problems = []
    for number in range(SIGNALS):
        run_id, noted = f"signals-{number}", numbers[2 * number]
        if run_id not in known:
            problems += [f"{run_id} is not there, with {noted} rows"] if noted else []
            continue
        answer = get_run(stub, run_id)
        if answer.run.status != data.RUN_STATUS_PREEMPTED or not answer.completeness.complete:
            problems.append(f"{run_id}: {answer.run.status} {answer.completeness}")
        for name in ("m0", "m99") if number % 3 == 0 else ("m0",):
            points = read_points(stub, [run_id], [name])[run_id, name]
            if points != [(step, step * 0.5) for step in range(len(points))] or not noted <= len(points) <= noted + 1:
                problems.append(f"{run_id} {name}: {len(points)} points of {noted} that were logged")
    assert not problems, "\n".join(problems)


_IN_LOG = """
import os, signal, sys, time
import tracker_client as tracker

logged = 0

def handler(number, frame):
    global logged
    # It may itself be interrupted.
    mine, logged = logged, logged + 1
    run.log({"handled": float(mine)}, step=mine)

signal.signal(signal.SIGUSR1, handler)
run = tracker.init("signals", run_id="handler", capture=False)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
signal.signal(signal.SIGALRM, handler)
deadline = time.monotonic() + 1
step = 0
while time.monotonic() < deadline:
    run.log({"loss": float(step)}, step=step)
    step += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert run.finish(), "not sent"
print(step, logged)
"""


def test_a_signal_handler_may_log_in_the_middle_of_a_log(tmp_path: Path, server: str, stub: TrackerServiceStub) -> None:
    """Two thousand signals a second in a tight loop, each of which logs a point: every point of both is there once."""
    ended = Job(tmp_path, _IN_LOG, server=server).run()
    assert (ended.code, ended.errors) == (0, "")
    steps, handled = map(int, ended.output.split())
    assert handled > 100
    found = read_points(stub, ["handler"], ["loss", "handled"])
    assert found["handler", "loss"] == [(step, float(step)) for step in range(steps)]
    assert found["handler", "handled"] == [(step, float(step)) for step in range(handled)]
