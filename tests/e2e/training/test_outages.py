"""A server that is down, dies, refuses or hangs: training ends in its time, nothing is lost, and a sync completes it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.servers.ports import free_port
from tests.e2e.deployment import Deployment
from tests.e2e.training.forwarder import forwarder
from tests.e2e.training.jobs import Ended, Job, deaf_server, get_run, read_points, wait_points
from tracker.v1 import resources_pb2 as data
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

STEPS = 200
FINISH_SECONDS = 1.5
SLACK_SECONDS = 1.0
"""For starting the run, and for a wake-up that comes late."""

_TRAIN = f"""
import json, sys, time
import tracker_client as tracker
def train(**run):
    began = time.monotonic()
    run = tracker.init("outages", capture=False, **run)
    print("training", flush=True)
    for step in range({STEPS}):
        run.log({{"loss": step / 4, "accuracy": -step}}, step=step)
        time.sleep(0.002)
    return run, time.monotonic() - began
run, loop = train(run_id=sys.argv[1])
bare = train(mode="disabled")[1]
if sys.argv[3:]: print("trained", flush=True), input()
began = time.monotonic()
sent = run.finish(timeout=float(sys.argv[2]))
print(json.dumps([sent, loop, bare, time.monotonic() - began]))
"""
"""Arguments: the run's id, the timeout of finish(), and anything if it is to wait for a line before that."""


@pytest.mark.parametrize("trouble", ["down", "refusing", "hanging"])
def test_a_run_without_a_server_ends_in_its_time_and_a_sync_completes_it(
    trouble: str, tmp_path: Path, stub: TrackerServiceStub, server: str
) -> None:
    """For the whole run the server is not there, or knows no such key, or takes connections and never answers. The
    script ends with code 0, its loop takes what it takes without a tracker, finish() keeps its timeout, says once how much is left and
    how to send it, and a sync to a server that works sends every point once."""
    run_id = f"outage-{trouble}"
    with bad_server(trouble, tmp_path) as bad:
        job = Job(tmp_path, _TRAIN, server=bad, api_key="wrong")
        found = outcome(job.run(run_id, FINISH_SECONDS), "have not arrived yet")
    assert not found.sent
    assert found.loop < 2 * found.bare + SLACK_SECONDS
    assert found.finish < FINISH_SECONDS + SLACK_SECONDS
    assert job.sync(server, "").points >= 2 * STEPS
    check(stub, run_id)


def test_the_end_of_a_script_waits_for_a_server_that_is_down_no_longer_than_there_is_hope(
    tmp_path: Path, stub: TrackerServiceStub, server: str
) -> None:
    """Without finish(), and with the default timeout of 30 s: seven seconds at most, beyond what the same script takes
    without a tracker."""
    script = _TRAIN[: _TRAIN.index("bare = ")]
    job = Job(tmp_path, script, server=f"127.0.0.1:{free_port()}")
    bare = job.run("outage-hopeless", TRACKER_MODE="disabled")
    ended = job.run("outage-hopeless")
    assert ended.code == 0
    assert len(ended.warnings) == 1, ended.errors
    assert "out of reach" in ended.warnings[0]
    assert f"tracker sync {job.journals}" in ended.warnings[0]
    assert ended.seconds < 7 + bare.seconds + SLACK_SECONDS
    job.sync(server)
    check(stub, "outage-hopeless")


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.25])
def test_a_server_that_dies_and_comes_back_gets_everything(moment: float, tmp_path: Path, embedded: Deployment) -> None:
    """It is killed a moment after training has begun, and started again: finish() returns True. It is called when the
    server is back, as that may take longer than finish() has hope."""
    tracker = embedded.start().server
    running = Job(tmp_path, _TRAIN, server=tracker.address).start("outage-dying", 30, "wait")
    assert running.line() == "training"
    time.sleep(moment)
    tracker.kill()
    tracker.start()
    wait_points(embedded.stub(), "outage-dying", "loss", STEPS)
    running.tell("go on")
    found = outcome(running.wait(), "")
    assert found.sent
    assert found.loop < 2 * found.bare + SLACK_SECONDS
    check(embedded.stub(), "outage-dying")


def test_finish_waits_for_a_server_that_comes_within_reach(
    tmp_path: Path, stub: TrackerServiceStub, server: str
) -> None:
    """It was out of reach for the whole of the training."""
    address = f"127.0.0.1:{free_port()}"
    running = Job(tmp_path, _TRAIN, server=address).start("outage-late", 30, "wait")
    while running.line() != "trained":
        pass
    running.tell("go on")
    with forwarder(address, server):
        assert outcome(running.wait(), "").sent
    check(stub, "outage-late")


def test_the_next_run_of_a_directory_sends_what_an_earlier_one_left(tmp_path: Path, embedded: Deployment) -> None:
    """Two runs while the server is down, then one while it is up: all three are there."""
    tracker = embedded.start().server
    tracker.kill()
    job = Job(tmp_path, _TRAIN, server=tracker.address)
    for number in range(2):
        assert not outcome(job.run(f"left-{number}", 0), "have not arrived yet").sent
    tracker.start()
    assert outcome(job.run("left-2", 30), "").sent
    job.sync()
    for number in range(3):
        check(embedded.stub(), f"left-{number}")


@contextmanager
def bad_server(trouble: str, directory: Path) -> Iterator[str]:
    """The address of one."""
    if trouble == "refusing":
        picky = Deployment(directory / "picky", api_keys="right")
        try:
            yield picky.start().server.address
        finally:
            picky.close()
    else:
        with deaf_server() if trouble == "hanging" else nullcontext(f"127.0.0.1:{free_port()}") as address:
            yield address


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the script says of itself, in seconds."""

    sent: bool
    """What finish() returned."""
    loop: float
    """Starting the run and logging."""
    bare: float
    """The same with the tracker disabled."""
    finish: float


def outcome(ended: Ended, warning: str) -> Outcome:
    """Of a script that ended well. warning: what it has said, once; empty: nothing."""
    assert ended.code == 0, ended
    assert len(ended.warnings) == bool(warning), ended.errors
    assert not warning or warning in ended.warnings[0], ended.errors
    return Outcome(*json.loads(ended.output.splitlines()[-1]))


def check(stub: TrackerServiceStub, run_id: str) -> None:
    """Everything of the run is there, once."""
    found = read_points(stub, [run_id], ["loss", "accuracy"])
    assert found[run_id, "loss"] == [(step, step / 4) for step in range(STEPS)]
    assert found[run_id, "accuracy"] == [(step, -step) for step in range(STEPS)]
    answer = get_run(stub, run_id)
    assert answer.completeness.complete, answer.completeness
    assert answer.run.status == data.RUN_STATUS_COMPLETED
