"""SIGTERM at random moments of a loop that does nothing but log: the process ends at once, and nothing is lost."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from deploy.servers.processes import wait_until
from tests.e2e.training.jobs import Job, get_run, list_runs, read_points, sender_pids
from tests.e2e.training.zygote import end_each, zygote_script
from tracker.v1 import resources_pb2 as data
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

SIGNALS = 60
WIDTH = 100
# The loop is tight, so that most signals come in the middle of log(); a third of the runs fills segments quickly, a third
# is told more than points.
_TRAIN = f"""
def train(number):
    run = tracker.init(experiment, run_id=f"{{experiment}}-{{number}}", capture=False)
    wide = number % 3 == 0
    names = [f"m{{i}}" for i in range({WIDTH} if wide else 1)]
    for step in range(2_000 if wide else 20_000):
        run.log(dict.fromkeys(names, step * 0.5), step=step)
        noted[number] = step + 1
        if number % 3 == 1 and step % 500 == 0:
            run.config["step"] = step
"""


@pytest.mark.timeout(120)
def test_sigterm_in_the_middle_of_anything_ends_the_run_as_preempted(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """60 times, several at a time, at a random moment from just after the fork on. Each process ends by the signal, with
    its run preempted and its writer closed, and every point whose log() had returned is there."""
    job = Job(tmp_path, zygote_script(_TRAIN), server=server)
    noted = end_each(job, "signals", SIGNALS, signal.SIGTERM, random.Random(5))
    job.sync()
    known = list_runs(stub, "signals")
    problems = []
    for number, count in enumerate(noted):
        run_id = f"signals-{number}"
        if run_id not in known:
            problems += [f"{run_id} is not there, with {count} rows"] if count else []
            continue
        answer = get_run(stub, run_id)
        if answer.run.status != data.RUN_STATUS_PREEMPTED or not answer.completeness.complete:
            problems.append(f"{run_id}: {answer.run.status} {answer.completeness}")
        for (_, name), points in read_points(
            stub, [run_id], ["m0", f"m{WIDTH - 1}"] if number % 3 == 0 else ["m0"]
        ).items():
            if points != [(step, step * 0.5) for step in range(len(points))] or not count <= len(points) <= count + 1:
                problems.append(f"{run_id} {name}: {len(points)} points of {count} that were logged")
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


_IDLE = """
import signal, sys, threading, time
import tracker_client as tracker

run = tracker.init("signals", run_id="masks", system_seconds=1.0)
run.log({"loss": 1.0})
while threading.active_count() < 4: time.sleep(0.01)
print("ready", flush=True)
sys.stdin.readline()
"""


def test_the_threads_of_the_client_take_no_signals(tmp_path: Path, server: str) -> None:
    """Whatever the system sends to the process wakes its main thread: all other threads block SIGTERM, SIGINT and the
    like, and the sender blocks nothing."""
    job = Job(tmp_path, _IDLE, server=server)
    running = job.start()
    assert running.line() == "ready"
    tasks = [task for task in Path(f"/proc/{running.pid}/task").iterdir() if task.name != str(running.pid)]
    assert len(tasks) >= 3
    # For an instant, a thread that starts a process blocks everything.
    assert wait_until(lambda: not any(blocked(task) & {signal.SIGSEGV, signal.SIGBUS} for task in tasks), 5)
    for task in tasks:
        assert {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1} <= blocked(task)
    assert not blocked(Path(f"/proc/{running.pid}"))
    # At first it is another process, which ends at once.
    assert wait_until(lambda: [blocked(Path(f"/proc/{pid}")) for pid in sender_pids(job.journals)] == [set()], 10)
    running.tell("end")
    assert running.wait().code == 0


def blocked(process: Path) -> set[int]:
    """The signals that a thread blocks; all of them when it is not there any more."""
    try:
        lines = (process / "status").read_text().splitlines()
    except FileNotFoundError:
        return set(range(1, 65))
    bits = next(int(line.split()[1], 16) for line in lines if line.startswith("SigBlk"))
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


_EARLY = """
import os, signal
import tracker_client as tracker
from tracker_client.run_journal import RunJournal
send = RunJournal.send

def ended_after(journal, method, request):
    RunJournal.send = send
    send(journal, method, request)
    os.kill(os.getpid(), signal.SIGTERM)

RunJournal.send = ended_after
tracker.init("early", run_id="early", capture=False)
"""


def test_sigterm_within_init_ends_the_run_that_has_just_begun(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """It comes when the start has just been kept, and init has not returned."""
    job = Job(tmp_path, _EARLY, server=server)
    assert job.run().code == -signal.SIGTERM
    job.sync()
    answer = get_run(stub, "early")
    assert answer.run.status == data.RUN_STATUS_PREEMPTED
    assert answer.completeness.complete, answer.completeness


_CODECS = """
import sys
import tracker_client as tracker
import tracker_client.start

def codecs():
    return {name for name in sys.modules if name.startswith("encodings.")}

before = codecs()
run = tracker.init("codecs", run_id="codecs", capture=False)
run.log({"loss": 0.5})
run.finish()
print(sorted(codecs() - before))
"""


def test_a_run_needs_no_codec_that_is_imported_when_it_is_first_used(tmp_path: Path, server: str) -> None:
    """A handler that interrupts that import, and ends the run, would find the codec unknown."""
    ended = Job(tmp_path, _CODECS, server=server).run()
    assert (ended.code, ended.output.strip(), ended.warnings) == (0, "[]", [])
