"""Training against the full form: RabbitMQ, Redis and PostgreSQL between log() and a reader."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from tests.e2e.deployment import Deployment
from tests.e2e.load import call
from tests.e2e.training.jobs import Job, get_run, list_runs, read_points, wait_points
from tests.e2e.training.zygote import end_each, zygote_script
from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as public

ROWS = 5_000
KILLS = 30

_TRAIN = f"""
import json, sys
import tracker_client as tracker
run = tracker.init("full-form", run_id=sys.argv[1], config={{"lr": 0.1}}, capture=False)
for step in range({ROWS}):
    run.log({{"loss": step / 2, "accuracy": -step}}, step=step)
run.summary["best"] = 0.25
print(json.dumps([run.finish(), run.write_token]))
"""


@pytest.mark.timeout(120)
def test_after_a_finish_that_returned_true_a_reader_with_the_token_sees_everything(
    calm_full: Deployment, tmp_path: Path
) -> None:
    """Five runs one after the other, each read at once with its write_token: all points, the end, and complete."""
    stub = calm_full.stub()
    for number in range(5):
        run_id = f"token-{number}"
        ended = Job(tmp_path, _TRAIN, server=calm_full.server.address).run(run_id)
        assert (ended.code, ended.errors) == (0, "")
        sent, token = json.loads(ended.output)
        assert sent
        answer = get_run(stub, run_id, [token])
        assert {metric.name: metric.count for metric in answer.metrics if metric.count} == {
            "accuracy": ROWS,
            "loss": ROWS,
        }
        assert answer.completeness.complete, answer.completeness
        assert answer.run.status == data.RUN_STATUS_COMPLETED
        found = read_points(stub, [run_id], ["loss", "accuracy"])
        assert found[run_id, "loss"] == [(step, step / 2) for step in range(ROWS)]
        assert found[run_id, "accuracy"] == [(step, -step) for step in range(ROWS)]


_KILLED = """
def train(number):
    run = tracker.init(experiment, run_id=f"{experiment}-{number}", capture=False)
    for step in itertools.count():
        run.log({"loss": step * 0.5}, step=step)
        noted[number] = step + 1
        if step % 10 == 9:
            time.sleep(0.001)
"""


@pytest.mark.timeout(120)
def test_kills_lose_nothing_in_the_full_form_either(calm_full: Deployment, tmp_path: Path) -> None:
    """kill -9 at 30 random moments; after a sync everything is there once, as soon as it is stored."""
    stub = calm_full.stub()
    job = Job(tmp_path, zygote_script(_KILLED), server=calm_full.server.address)
    noted = end_each(job, "full-kills", KILLS, signal.SIGKILL, random.Random(3))
    job.sync()
    # What the sync has sent is stored in order, for each partition: a later write of the same runs waits for it.
    tokens = [
        call(stub.UpdateRun, public.UpdateRunRequest(run_id=f"full-kills-{number}", changes=_NOTES)).write_token
        for number in range(KILLS)
    ]
    call(stub.GetDashboardStats, public.GetDashboardStatsRequest(write_tokens=tokens), 30)
    assert len(list_runs(stub, "full-kills")) >= sum(count > 0 for count in noted)
    found = read_points(stub, [f"full-kills-{number}" for number in range(KILLS)], ["loss"])
    for number, count in enumerate(noted):
        points = found[f"full-kills-{number}", "loss"]
        assert points == [(step, step * 0.5) for step in range(len(points))]
        assert count <= len(points) <= count + 1
        assert not count or get_run(stub, f"full-kills-{number}").completeness.complete


_NOTES = public.RunChanges(notes="counted")


@pytest.mark.timeout(120)
def test_a_server_that_is_killed_in_the_middle_of_training_costs_nothing(full: Deployment, tmp_path: Path) -> None:
    """The server is killed while a script logs, and comes back: everything is there once, and finish() returns True."""
    full.start()
    script = _TRAIN.replace("step=step)\n", "step=step)\n    if step % 100 == 0: print(step, flush=True)\n", 1)
    # It ends when the server is back, which may take longer than finish() has hope.
    script = script.replace("run.summary", "input()\nrun.summary")
    running = Job(tmp_path, script, server=full.server.address).start("server-killed")
    assert running.line() == "0"
    full.server.kill()
    full.server.start()
    wait_points(full.stub(), "server-killed", "loss", ROWS)
    running.tell("go on")
    ended = running.wait()
    assert (ended.code, ended.warnings) == (0, []), ended
    sent, token = json.loads(ended.output.splitlines()[-1])
    assert sent
    answer = get_run(full.stub(), "server-killed", [token])
    assert answer.completeness.complete
    found = read_points(full.stub(), ["server-killed"], ["loss", "accuracy"])
    assert found["server-killed", "loss"] == [(step, step / 2) for step in range(ROWS)]
    assert found["server-killed", "accuracy"] == [(step, -step) for step in range(ROWS)]
