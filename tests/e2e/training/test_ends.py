"""How a script ends is what its run says, and whatever the end is, nothing is lost by it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.training.jobs import Job, get_run, read_points
from tracker.v1 import resources_pb2 as data
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

_BEGIN = """
import gc, os, signal, sys, threading, time
import tracker_client as tracker

def train():
    run = tracker.init("ends", run_id=sys.argv[1], capture=False)
    for step in range(100):
        run.log({"loss": step / 2})
    return run

"""
_ENDS = {
    "finish": ("run = train(); print(run.finish())", 0, "COMPLETED", ""),
    "finish-twice": ("run = train(); print(run.finish() and run.finish('failed'))", 0, "COMPLETED", ""),
    "finish-failed": ("run = train(); print(run.finish('failed', error='no data'))", 0, "FAILED", "no data"),
    "end-of-script": ("run = train()", 0, "COMPLETED", ""),
    "end-of-script-with-the-run-forgotten": ("def main():\n    train()\nmain(); gc.collect()", 0, "COMPLETED", ""),
    "exception": ("run = train(); 1 / 0", 1, "FAILED", "ZeroDivisionError: division by zero"),
    "exception-in-a-function-with-the-run-forgotten": (
        "def main():\n    train()\nmain(); gc.collect()\nraise ValueError('bad batch')",
        1,
        "FAILED",
        "ValueError: bad batch",
    ),
    "exception-with-a-hook-of-the-script": (
        "run = train()\nsys.excepthook = lambda *_: print('theirs', file=sys.stderr)\nraise ValueError('bad')",
        1,
        "FAILED",
        "ValueError: bad",
    ),
    "exit-0": ("run = train(); sys.exit(0)", 0, "COMPLETED", ""),
    "exit-3": ("run = train(); sys.exit(3)", 3, "FAILED", "exit: 3"),
    "exit-with-words": ("run = train(); sys.exit('no GPU')", 1, "FAILED", "exit: no GPU"),
    "exit-of-the-interactive-kind": ("run = train(); exit(3)", 3, "FAILED", "exit: 3"),
    "exit-in-a-thread-only": (
        "run = train()\nt = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join()",
        0,
        "COMPLETED",
        "",
    ),
    "keyboard-interrupt": (
        "run = train(); os.kill(os.getpid(), signal.SIGINT); time.sleep(5)",
        -signal.SIGINT,
        "CANCELLED",
        "KeyboardInterrupt",
    ),
    "with": ("with train() as run:\n    run.log({'loss': 50.0})", 0, "COMPLETED", ""),
    "with-exception": (
        "with train() as run:\n    run.log({'loss': 50.0})\n    raise RuntimeError('nan loss')",
        1,
        "FAILED",
        "RuntimeError: nan loss",
    ),
    "with-exit-3": ("with train() as run:\n    sys.exit(3)", 3, "FAILED", "SystemExit: 3"),
    "with-keyboard-interrupt": (
        "with train() as run:\n    raise KeyboardInterrupt",
        -signal.SIGINT,
        "CANCELLED",
        "KeyboardInterrupt",
    ),
    "sigterm": (
        "run = train(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)",
        -signal.SIGTERM,
        "PREEMPTED",
        "SIGTERM",
    ),
    "sigterm-with-a-handler-that-exits": (
        (
            "def stop(*_):\n    sys.exit(7)\n"
            "signal.signal(signal.SIGTERM, stop); run = train(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)"
        ),
        7,
        "PREEMPTED",
        "SIGTERM",
    ),
    "sigterm-with-a-handler-that-asks-to-stop": (
        (
            "stopping = []\nsignal.signal(signal.SIGTERM, lambda *_: stopping.append(1)); run = train()\n"
            "os.kill(os.getpid(), signal.SIGTERM)\nwhile not stopping: time.sleep(0.01)\nrun.log({'loss': 50.0})"
        ),
        0,
        "PREEMPTED",
        "SIGTERM",
    ),
    "sigterm-ignored": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); run = train(); os.kill(os.getpid(), signal.SIGTERM)",
        0,
        "COMPLETED",
        "",
    ),
    "init-in-a-thread": ("t = threading.Thread(target=train); t.start(); t.join()", 0, "COMPLETED", ""),
}


@pytest.mark.parametrize("end", _ENDS)
def test_the_end_of_a_script_is_the_status_of_its_run(
    end: str, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """Each way to end gives its exit code unchanged, its status and its reason; all points and the end have arrived
    when the script is gone, and nothing is said."""
    script, code, status, error = _ENDS[end]
    ended = Job(tmp_path, _BEGIN + script, server=server).run(f"end-{end}")
    assert (ended.code, ended.warnings) == (code, []), ended
    answer = get_run(stub, f"end-{end}")
    assert data.RunStatus.Name(answer.run.status) == f"RUN_STATUS_{status}", answer.run
    assert answer.run.metadata["error" if error else ""] == error if error else "error" not in answer.run.metadata
    assert answer.completeness.complete, answer.completeness
    (points,) = read_points(stub, [f"end-{end}"], ["loss"]).values()
    assert points == [(step, step / 2) for step in range(len(points))]
    assert len(points) in (100, 101)
    if ended.output:
        assert ended.output == "True\n"


_LEAVE = """
from tracker_client.sender.lock import sender_at_work
run = train()
while not sender_at_work(run.directory, os.environ["TRACKER_SERVER"]): time.sleep(0.01)
os._exit(5)
"""


def test_a_script_that_leaves_without_a_word_leaves_its_run_running_and_loses_nothing(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """os._exit in the middle: the sender sends what was logged, and closes the writer."""
    job = Job(tmp_path, _BEGIN + _LEAVE, server=server)
    ended = job.run("left")
    assert (ended.code, ended.errors) == (5, "")
    job.sync()
    answer = get_run(stub, "left")
    assert answer.completeness.complete
    assert answer.run.status == data.RUN_STATUS_RUNNING
    assert [metric.count for metric in answer.metrics] == [100]


_MANY = """
import sys
import tracker_client as tracker

for number in range(8):
    run = tracker.init("ends", run_id=f"{sys.argv[1]}-{number}", capture=False)
    run.log({"loss": number})
    print(run.finish(timeout=5))
"""


def test_runs_one_after_the_other_in_one_script_all_arrive_at_once(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """Each finish returns True well within five seconds, however short the runs: none waits for the sender of the one
    before to be missed."""
    ended = Job(tmp_path, _MANY, server=server).run("many")
    assert (ended.code, ended.warnings, ended.output) == (0, [], "True\n" * 8), ended
    for number in range(8):
        assert get_run(stub, f"many-{number}").completeness.complete
