"""Processes that a training process makes: forked or spawned, they log to its run beside it, and do not end it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.training.jobs import Job, get_run, read_points
from tracker.v1 import resources_pb2 as data
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

CHILDREN = 4
ROWS = 100

_FORK = f"""
import os, signal, sys, time
import tracker_client as tracker

run = tracker.init("forks", run_id="forked", capture=False)
children = []
for child in range({CHILDREN}):
    run.log({{"parent": float(child)}}, step=child)
    pid = os.fork()
    if not pid:
        for step in range({ROWS}):
            run.log({{f"child{{child}}": step / 2}}, step=step)
        if child == 0:
            os._exit(0)
        if child == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if child == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        sys.exit(0)  # with all that Python does at its end
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
for step in range({CHILDREN}, {ROWS}):
    run.log({{"parent": float(step)}}, step=step)
assert run.finish(), "not sent"
"""

_POOL = f"""
import multiprocessing, sys
import tracker_client as tracker

run = None

def work(child):
    for step in range({ROWS}):
        run.log({{f"child{{child}}": step / 2}}, step=step)

def work_with(handed):
    theirs, child = handed
    for step in range({ROWS}):
        theirs.log({{f"child{{child}}": step / 2}}, step=step)

if __name__ == "__main__":
    run = tracker.init("forks", run_id=sys.argv[1], capture=False)
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        for step in range({ROWS}):
            run.log({{"parent": float(step)}}, step=step)
        if sys.argv[2] == "fork":
            pool.map(work, range({CHILDREN}), chunksize=1)
        else:
            pool.map(work_with, [(run, child) for child in range({CHILDREN})], chunksize=1)
    assert run.finish(), "not sent"
"""


def test_forked_children_log_beside_their_parent_however_they_end(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """One leaves by os._exit, one is killed, one gets SIGTERM, one ends as scripts do: every point is there once, all
    writers are closed, and the run completes when the parent ends it."""
    job = Job(tmp_path, _FORK, server=server)
    ended = job.run()
    assert (ended.code, ended.errors) == (0, "")
    job.sync()
    check(stub, "forked")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_workers_of_a_pool_log_to_the_run(
    method: str, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """Forked ones use the run that they find, spawned ones are handed it."""
    job = Job(tmp_path, _POOL, server=server)
    ended = job.run(f"pool-{method}", method)
    assert (ended.code, ended.errors) == (0, "")
    job.sync()
    check(stub, f"pool-{method}")


_OWN_RUN = """
import os, signal, time
import tracker_client as tracker

run = tracker.init("forks", run_id="of-the-parent", capture=False)
run.log({"loss": 1.0})
pid = os.fork()
if not pid:
    own = tracker.init("forks", run_id="of-the-child", capture=False)
    own.log({"loss": 2.0})
    run.log({"loss": 3.0}, step=1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
_, status = os.waitpid(pid, 0)
assert os.WTERMSIG(status) == signal.SIGTERM
assert run.finish(), "not sent"
"""


def test_a_child_that_has_a_run_of_its_own_ends_that_one_only(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """SIGTERM in the child: its own run was preempted; its parent's is completed by the parent, with both's points."""
    job = Job(tmp_path, _OWN_RUN, server=server)
    ended = job.run()
    assert (ended.code, ended.errors) == (0, "")
    job.sync()
    child, parent = get_run(stub, "of-the-child"), get_run(stub, "of-the-parent")
    assert child.run.status == data.RUN_STATUS_PREEMPTED
    assert parent.run.status == data.RUN_STATUS_COMPLETED
    assert read_points(stub, ["of-the-parent"], ["loss"])["of-the-parent", "loss"] == [(0, 1.0), (1, 3.0)]
    assert child.completeness.complete
    assert parent.completeness.complete


def check(stub: TrackerServiceStub, run_id: str) -> None:
    """Every point once, everything complete, one attempt that has completed."""
    names = ["parent", *(f"child{child}" for child in range(CHILDREN))]
    found = read_points(stub, [run_id], names)
    assert found.pop((run_id, "parent")) == [(step, float(step)) for step in range(ROWS)]
    for points in found.values():
        assert points == [(step, step / 2) for step in range(ROWS)]
    answer = get_run(stub, run_id)
    assert answer.completeness.complete, answer.completeness
    assert answer.run.status == data.RUN_STATUS_COMPLETED
    assert len(answer.attempts) == 1
