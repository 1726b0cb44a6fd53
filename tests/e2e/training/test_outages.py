"""A server that is down, dies, refuses or hangs: training ends in its time, nothing is lost, and a sync completes it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from deploy.servers.ports import free_port
from tests.e2e.deployment import Deployment
from tests.e2e.training.jobs import PATIENT, Ended, Job, deaf_server, get_run, read_points
from tracker.v1 import resources_pb2 as data
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

STEPS = 200
FINISH_SECONDS = 1.5
SLACK_SECONDS = 4.0
"""What a busy machine may add."""

_TRAIN = f"""
import json, sys, time
began = time.monotonic()
import tracker_client as tracker
run = tracker.init("outages", run_id=sys.argv[1], capture=False)
for step in range({STEPS}):
    run.log({{"loss": step / 4, "accuracy": -step}}, step=step)
    time.sleep(0.002)
logged = time.monotonic()
sent = run.finish(timeout=float(sys.argv[2]))
print(json.dumps([sent, logged - began, time.monotonic() - logged]))
"""


@pytest.mark.parametrize("trouble", ["down", "refusing", "hanging"])
def test_a_run_without_a_server_ends_in_its_time_and_a_sync_completes_it(
    trouble: str, tmp_path: Path, stub: TrackerServiceStub, server: str
) -> None:
    """For the whole run the server is not there, or knows no such key, or takes connections and never answers. The
    script ends with code 0, its loop takes what it takes, finish() keeps its timeout, says once how much is left and
    how to send it, and a sync to a server that works sends every point once."""
    run_id = f"outage-{trouble}"
    with bad_server(trouble, tmp_path) as bad:
        job = Job(tmp_path, _TRAIN, server=bad, api_key="wrong")
        sent, loop, finish = outcome(job.run(run_id, FINISH_SECONDS), "have not arrived yet")
    assert not sent
    assert loop < STEPS * 0.002 * 2 + SLACK_SECONDS
    assert finish < FINISH_SECONDS + SLACK_SECONDS
    assert job.sync(server, "").points >= 2 * STEPS
    check(stub, run_id)


def test_the_end_of_a_script_waits_for_a_server_that_is_down_no_longer_than_there_is_hope(
    tmp_path: Path, stub: TrackerServiceStub, server: str
) -> None:
    """Without finish(), and with the default timeout of 30 s: seven seconds at most."""
    script = _TRAIN[: _TRAIN.index("logged = ")]
    job = Job(tmp_path, script, server=f"127.0.0.1:{free_port()}")
    ended = job.run("outage-hopeless")
    assert ended.code == 0
    assert len(ended.warnings) == 1, ended.errors
    assert "out of reach" in ended.warnings[0]
    assert f"tracker sync {job.journals}" in ended.warnings[0]
    assert ended.seconds < 7 + STEPS * 0.002 * 2 + SLACK_SECONDS
    job.sync(server)
    check(stub, "outage-hopeless")


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.25])
def test_a_server_that_dies_and_comes_back_gets_everything(moment: float, tmp_path: Path, embedded: Deployment) -> None:
    """It is killed a moment after training has begun, and started again: finish() waits for it, and returns True."""
    tracker = embedded.start().server
    job = Job(tmp_path, PATIENT + _TRAIN, server=tracker.address)
    running = job.start("outage-dying", 45)
    time.sleep(moment)
    tracker.kill()
    tracker.start()
    sent, loop, _ = outcome(running.wait(), "")
    assert sent
    assert loop < STEPS * 0.002 * 2 + SLACK_SECONDS
    check(embedded.stub(), "outage-dying")


def test_the_next_run_of_a_directory_sends_what_an_earlier_one_left(tmp_path: Path, embedded: Deployment) -> None:
    """Two runs while the server is down, then one while it is up: all three are there."""
    tracker = embedded.start().server
    tracker.kill()
    job = Job(tmp_path, _TRAIN, server=tracker.address)
    for number in range(2):
        assert not outcome(job.run(f"left-{number}", 0), "have not arrived yet")[0]
    tracker.start()
    assert outcome(job.run("left-2", 30), "")[0]
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


def outcome(ended: Ended, warning: str) -> tuple[bool, float, float]:
    """Of a script that ended well: whether all was sent, seconds of its loop and of its finish. warning: what it has
    said, once; empty: nothing."""
    assert ended.code == 0, ended
    assert len(ended.warnings) == bool(warning), ended.errors
    assert not warning or warning in ended.warnings[0], ended.errors
    sent, loop, finish = json.loads(ended.output)
    return sent, loop, finish


def check(stub: TrackerServiceStub, run_id: str) -> None:
    """Everything of the run is there, once."""
    found = read_points(stub, [run_id], ["loss", "accuracy"])
    assert found[run_id, "loss"] == [(step, step / 4) for step in range(STEPS)]
    assert found[run_id, "accuracy"] == [(step, -step) for step in range(STEPS)]
    answer = get_run(stub, run_id)
    assert answer.completeness.complete, answer.completeness
    assert answer.run.status == data.RUN_STATUS_COMPLETED
