"""Modes, settings from the environment, resuming, and being asked to stop."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

import pytest

from deploy.servers.ports import free_port
from deploy.servers.processes import wait_until
from tests.e2e.load import call
from tests.e2e.training.jobs import Job, deaf_server, get_run, list_runs, read_points
from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

_TRAIN = """
import json, sys
import tracker_client as tracker
run = tracker.init(**json.loads(sys.argv[1]), capture=False)
for step in range(10):
    run.log({"loss": float(step)})
run.config["late"] = 1
run.summary["best"] = 0.0
sent = run.finish()
print(json.dumps([run.id, run.attempt, sent, str(run.directory), run.write_token]))
"""
LOSS = [(step, float(step)) for step in range(10)]


def test_offline_keeps_everything_for_a_sync(tmp_path: Path, server: str, stub: TrackerServiceStub) -> None:
    """Nothing is sent and nothing is said; a sync sends it to where TRACKER_SERVER says then."""
    job = Job(tmp_path, _TRAIN, server=server, mode="offline")
    ended = job.run(json.dumps({"run_id": "offline", "experiment": "modes"}))
    assert (ended.code, ended.errors) == (0, "")
    assert json.loads(ended.output)[2] is False
    assert "offline" not in list_runs(stub, "modes")
    assert not (job.journals / "sender.log").exists()
    job.sync(server)
    assert read_points(stub, ["offline"], ["loss"])["offline", "loss"] == LOSS
    answer = get_run(stub, "offline")
    assert answer.completeness.complete
    assert answer.run.status == data.RUN_STATUS_COMPLETED


def test_disabled_does_nothing_and_writes_nothing(tmp_path: Path, server: str, stub: TrackerServiceStub) -> None:
    """Every call works, and the directory stays empty."""
    job = Job(tmp_path / "work", _TRAIN, server=server, mode="disabled")
    ended = job.run(json.dumps({"run_id": "disabled", "experiment": "modes", "resume": "must"}))
    assert (ended.code, ended.errors) == (0, "")
    assert json.loads(ended.output) == ["disabled", json.loads(ended.output)[1], True, "None", ""]
    assert list(job.directory.iterdir()) == [job.script]
    assert "disabled" not in list_runs(stub, "modes")


def test_variables_say_what_init_does_not(tmp_path: Path, server: str, stub: TrackerServiceStub) -> None:
    """TRACKER_DIR, TRACKER_RUN_ID, TRACKER_ATTEMPT and TRACKER_RANK; arguments come before them."""
    job = Job(tmp_path, _TRAIN, server=server, dir=tmp_path / "there", run_id="from-variables", attempt=7)
    run_id, attempt, sent, directory, _ = json.loads(job.run("{}").output)
    assert (run_id, attempt, sent, directory) == ("from-variables", 7, True, str(tmp_path / "there"))
    run_id, attempt, sent, directory, _ = json.loads(
        job.run(json.dumps({"run_id": "from-arguments", "attempt": 8, "directory": str(tmp_path / "here")})).output
    )
    assert (run_id, attempt, sent, directory) == ("from-arguments", 8, True, str(tmp_path / "here"))
    assert get_run(stub, "from-variables").run.attempt == 7


def test_an_api_key_is_sent_and_never_written(tmp_path: Path, embedded_with_key: str) -> None:
    """From TRACKER_API_KEY; no file below the directory has it, and no command line."""
    job = Job(tmp_path, _TRAIN, server=embedded_with_key, api_key="swordfish")
    ended = job.run("{}")
    assert json.loads(ended.output)[2] is True, ended
    for path in tmp_path.rglob("*"):
        if path.is_file() and "tracker/" not in str(path.relative_to(tmp_path)):
            assert b"swordfish" not in path.read_bytes(), path


@pytest.mark.parametrize("there", [True, False], ids=["there", "not-there"])
@pytest.mark.parametrize("resume", ["must", "never", "allow"])
def test_resuming_is_held_against_what_the_server_has(
    resume: str, there: bool, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """What is as expected goes on without a word; what is not is said, and with "never" another id is used."""
    run_id = f"resume-{resume}-{there}"
    if there:
        call(stub.StartRun, public.StartRunRequest(run_id=run_id, attempt=1))
    ended = Job(tmp_path, _TRAIN, server=server).run(json.dumps({"run_id": run_id, "resume": resume}))
    used, _, sent, _, _ = json.loads(ended.output)
    assert (ended.code, sent) == (0, True)
    wrong = {"must": not there, "never": there, "allow": False}[resume]
    assert [f"resume='{resume}'" in line for line in ended.warnings] == [True] * wrong, ended.errors
    assert (used == run_id) == (not (resume == "never" and there))
    assert used.startswith(run_id)
    assert read_points(stub, [used], ["loss"])[used, "loss"] == LOSS
    assert len(get_run(stub, used).attempts) == 1 + (there and resume != "never")


@pytest.mark.parametrize("hangs", [False, True], ids=["down", "hanging"])
def test_resuming_without_a_server_goes_on_after_seconds(hangs: bool, tmp_path: Path) -> None:
    """It is said that nobody knows, and the run is used."""
    script = _TRAIN.replace("run.finish()", "run.finish(timeout=0)")
    with deaf_server() as deaf:
        job = Job(tmp_path, script, server=deaf if hangs else f"127.0.0.1:{free_port()}")
        ended = job.run(json.dumps({"run_id": "unknown", "resume": "must"}))
    assert ended.code == 0
    assert json.loads(ended.output)[0] == "unknown"
    assert sum("does not say whether run unknown is there" in line for line in ended.warnings) == 1, ended.errors
    assert ended.seconds < 10


_UNTIL_STOPPED = """
import sys, time
import tracker_client as tracker
run = tracker.init("stopped", run_id=sys.argv[1], capture=False)
print(run.stop_requested, flush=True)
step = 0
deadline = time.monotonic() + 20
while not run.stop_requested and time.monotonic() < deadline:
    run.log({"loss": float(step)}, step=step)
    step += 1
    time.sleep(0.01)
print(run.stop_requested, flush=True)
run.finish("cancelled")
"""


def test_a_run_that_is_asked_to_stop_sees_it(tmp_path: Path, server: str, stub: TrackerServiceStub) -> None:
    """Whoever asks through UpdateRun: the script's loop ends by itself, at the next heartbeat, which
    comes soon as long as the run is young."""
    run_id = f"stopped-{uuid.uuid4().hex[:8]}"
    running = Job(tmp_path, _UNTIL_STOPPED, server=server).start(run_id)
    assert running.line() == "False"
    assert wait_until(lambda: run_id in list_runs(stub, "stopped"), 10)
    changes = public.RunChanges(stop_requested=True)
    call(stub.UpdateRun, public.UpdateRunRequest(run_id=run_id, changes=changes))
    asked = time.monotonic()
    ended = running.wait()
    assert (ended.code, ended.output, ended.errors) == (0, "True\n", "")
    assert time.monotonic() - asked < 10
    assert get_run(stub, run_id).run.status == data.RUN_STATUS_CANCELLED
