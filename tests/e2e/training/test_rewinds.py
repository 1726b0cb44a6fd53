"""Going on from a checkpoint: what the attempts before have logged beyond it is superseded, server or no server."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from deploy.servers.processes import wait_until
from tests.e2e.load import call
from tests.e2e.training.jobs import Job, get_run, list_runs, read_points
from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_client.client import TrackerClient

_FIRST = """
import sys
import tracker_client as tracker
run = tracker.init("rewinds", run_id=sys.argv[1], capture=False)
for step in range(10):
    run.log({"loss": float(step), "first/only": float(step)})
run.finish("preempted")
"""
_SECOND = """
import json, sys
import tracker_client as tracker
given = json.loads(sys.argv[2])
run = tracker.init("rewinds", run_id=sys.argv[1], capture=False, **given)
if not given:
    run.rewind(4)  # as its checkpoint says
for step in range(3):
    run.log({"loss": 100.0 + step})
run.finish()
print(run.attempt)
"""
_LIVE = [(step, float(step)) for step in range(5)]
_ALL = [(step, float(step)) for step in range(10)]


@pytest.mark.parametrize("how", ["init", "rewind", "offline"])
def test_a_run_goes_on_from_its_checkpoint(how: str, tmp_path: Path, server: str, stub: TrackerServiceStub) -> None:
    run_id = f"rewound-{how}"
    mode = "offline" if how == "offline" else "online"
    assert Job(tmp_path, _FIRST, server=server, mode=mode).run(run_id).code == 0
    job = Job(tmp_path, _SECOND, server=server, mode=mode)
    ended = job.run(run_id, json.dumps({} if how == "rewind" else {"rewind_to": 4}))
    assert (ended.code, ended.errors) == (0, "")
    job.sync(server)
    points = read_points(stub, [run_id], ["loss", "first/only"])
    assert points[run_id, "loss"] == [*_LIVE, (5, 100.0), (6, 101.0), (7, 102.0)]
    assert points[run_id, "first/only"] == _LIVE
    answer = get_run(stub, run_id)
    assert answer.completeness.complete
    first, second = answer.attempts
    assert (first.status, first.HasField("rewound_from_step")) == (data.RUN_STATUS_PREEMPTED, False)
    assert (second.attempt, second.status, second.rewound_from_step) == (
        int(ended.output),
        data.RUN_STATUS_COMPLETED,
        5,
    )
    with TrackerClient(server) as client:
        for attempt, expected in ((first.attempt, _ALL), (second.attempt, [(5, 100.0), (6, 101.0), (7, 102.0)])):
            (series,) = client.get_metric_history(run_id, "loss", attempt=attempt)
            assert list(zip(series.steps.tolist(), series.values.tolist(), strict=True)) == expected


_MISTAKES = """
import json
import tracker_client as tracker
run = tracker.init("mistakes", run_id="mistaken", capture=False, on_error="raise", attempt=0)
def said(call, *arguments):
    try:
        call(*arguments)
    except (ValueError, TypeError) as error:
        return str(error)
answers = [said(run.rewind, "five"), said(run.rewind, 2**63 - 1), said(run.rewind, 5)]
run.finish()
answers.append(said(run.rewind, 5))
run = tracker.init("mistakes", run_id="mistaken", capture=False, on_error="raise")
run.log({"loss": 1.0}, step=7)
answers.append(said(run.rewind, 5))
run.finish()
run = tracker.init("mistakes", run_id="mistaken", capture=False, on_error="raise")
answers += [said(run.rewind, 5), said(run.rewind, -1.0)]
run.finish()
print(json.dumps(answers))
"""


def test_a_rewind_that_cannot_be_is_said(tmp_path: Path, server: str) -> None:
    answers = json.loads(Job(tmp_path, _MISTAKES, server=server).run().output)
    expected = [
        "step is 'five' of type str; it must be a whole number",
        "nothing lies beyond that",
        "rewind() needs an attempt",
        "after run mistaken had finished",
        "rewind(5) was called after step 7 was logged",
        None,
        None,
    ]
    for answer, part in zip(answers, expected, strict=True):
        assert answer is None if part is None else part in answer


_UNTIL_STOPPED = """
import sys, time
import tracker_client as tracker
run = tracker.init("rewinds", run_id=sys.argv[1], capture=False)
deadline = time.monotonic() + float(sys.argv[2])
while not run.stop_requested and time.monotonic() < deadline:
    time.sleep(0.01)
print(run.stop_requested, flush=True)
run.finish("cancelled")
"""


def test_a_stop_is_for_the_attempt_that_was_running(tmp_path: Path, server: str, stub: TrackerServiceStub) -> None:
    run_id = f"stopped-{uuid.uuid4().hex[:8]}"
    job = Job(tmp_path, _UNTIL_STOPPED, server=server)
    running = job.start(run_id, 20)
    assert wait_until(lambda: run_id in list_runs(stub, "rewinds"), 10)
    call(stub.StopRun, public.StopRunRequest(run_id=run_id, reason="too warm"))
    found = get_run(stub, run_id).run
    assert (found.stop_requested, found.stop_reason) == (True, "too warm")
    assert running.wait().output == "True\n"
    # The next one has at least one heartbeat's answer by then, as young runs send them often.
    assert job.run(run_id, 3).output == "False\n"
    found = get_run(stub, run_id).run
    assert (found.stop_requested, found.stop_reason) == (False, "")
