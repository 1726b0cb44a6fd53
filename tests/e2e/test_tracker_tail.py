"""`tracker tail` and `tracker stop`: a run that is under way is followed, and asked to end."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import uuid
from pathlib import Path

from deploy.servers.processes import wait_until
from tests.e2e.deployment import Deployment
from tests.e2e.terminal import COMMAND, environment, in_pipe, on_terminal, rows
from tests.e2e.tracked import Tracked
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client.client import TrackerClient


def test_tail_once_says_where_the_run_is(tracked: Tracked) -> None:
    done = in_pipe(tracked.address, "tail", tracked.bad, "--once")
    assert done.code == 0
    assert {row["metric"]: row["step"] for row in rows(done.out)} == {"train/loss": "49", "val/acc": "40"}
    shown = on_terminal(tracked.address, "tail", tracked.bad, "val/acc", "--once").out
    assert "step 40" in shown
    assert "train/loss" not in shown
    assert f"run {tracked.bad}: running." in shown


def test_tail_follows_until_the_run_ends(tracked: Tracked) -> None:
    """New points come within a moment, each once; several of one step, and metrics that begin later, too."""
    run_id = f"live-{uuid.uuid4().hex[:8]}"
    with TrackerClient(tracked.address) as client:
        _log(client, run_id, "loss", 0, 1.0)
        command = [COMMAND, "tail", run_id, "--interval", "0.1", "--json"]
        with subprocess.Popen(command, env=environment(tracked.address), stdout=-1, stderr=-1, text=True) as process:
            assert process.stdout is not None
            seen = [json.loads(process.stdout.readline())]
            for step, value in ((1, 0.5), (1, 0.25), (2, math.nan)):
                _log(client, run_id, "loss", step, value)
                seen.append(json.loads(process.stdout.readline()))
            _log(client, run_id, "later", 0, 7.0)
            seen.append(json.loads(process.stdout.readline()))
            client.run_completed(messages.RunCompletedRequest(run_id=run_id, status=resources.RUN_STATUS_FAILED))
            rest, err = process.communicate(timeout=30)
    assert [(point["metric"], point["step"], point["value"]) for point in seen] == [
        ("loss", 0, 1.0),
        ("loss", 1, 0.5),
        ("loss", 1, 0.25),
        ("loss", 2, "NaN"),
        ("later", 0, 7.0),
    ]
    assert (process.returncode, rest) == (0, "")
    assert f"run {run_id}: failed." in err


def _log(client: TrackerClient, run_id: str, name: str, step: int, value: float) -> None:
    client.log_metric(messages.LogMetricRequest(run_id=run_id, name=name, step=step, value=value))


def test_tail_ends_with_what_arrives_after_the_end(tracked: Tracked) -> None:
    """The end may overtake what was sent before it: what is missing then is waited for."""
    run_id, writer = f"live-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    with TrackerClient(tracked.address) as client:
        client.start_run(messages.StartRunRequest(run_id=run_id, writer_id=writer, sequence=1))
        command = [COMMAND, "tail", run_id, "--interval", "0.2"]
        with subprocess.Popen(command, env=environment(tracked.address), stdout=-1, stderr=-1, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("metric\t")
            client.log_metric(
                messages.LogMetricRequest(run_id=run_id, writer_id=writer, name="loss", step=1, value=0.5, sequence=2)
            )
            assert process.stdout.readline().startswith("loss\t1\t")
            end = messages.RunCompletedRequest(
                run_id=run_id, writer_id=writer, status=resources.RUN_STATUS_COMPLETED, sequence=4
            )
            client.run_completed(end)
            client.log_metric(
                messages.LogMetricRequest(run_id=run_id, writer_id=writer, name="loss", step=2, value=0.25, sequence=3)
            )
            client.close_writer(messages.CloseWriterRequest(run_id=run_id, writer_id=writer, last_sequence=4))
            rest, err = process.communicate(timeout=30)
    assert (process.returncode, [line.split("\t")[:2] for line in rest.splitlines()]) == (0, [["loss", "2"]])
    assert f"run {run_id}: completed. Everything that was sent has arrived." in err


def test_tail_of_a_run_whose_experiment_is_deleted_ends_and_says_so(tracked: Tracked) -> None:
    run_id, experiment_id = f"gone-{uuid.uuid4().hex[:8]}", f"gone-{uuid.uuid4().hex[:8]}"
    with TrackerClient(tracked.address) as client:
        client.start_run(messages.StartRunRequest(run_id=run_id, experiment_id=experiment_id))
        command = [COMMAND, "tail", run_id, "--interval", "0.1"]
        with subprocess.Popen(command, env=environment(tracked.address), stdout=-1, stderr=-1, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("metric\t")
            client.delete_experiment(messages.DeleteExperimentRequest(experiment_id=experiment_id))
            _, err = process.communicate(timeout=15)
    assert (process.returncode, "was deleted; UndeleteExperiment restores it" in err) == (1, True)


def test_tail_outlives_a_server_that_is_away(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "tracker").start()
    try:
        with TrackerClient(deployment.server.address) as client:
            _log(client, "long", "loss", 0, 1.0)
            command = [COMMAND, "tail", "long", "--interval", "0.1"]
            variables = environment(deployment.server.address)
            with subprocess.Popen(command, env=variables, stdout=-1, stderr=-1, text=True) as process:
                assert process.stdout is not None
                assert process.stdout.readline().startswith("metric")
                assert process.stdout.readline().startswith("loss\t0\t")
                deployment.server.kill()
                deployment.server.start()
                _log(client, "long", "loss", 1, 0.5)
                assert process.stdout.readline().startswith("loss\t1\t")
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=30)
        assert process.returncode == 130
    finally:
        deployment.close()


def test_stop_asks_and_takes_back(tracked: Tracked) -> None:
    run_id = f"stop-{uuid.uuid4().hex[:8]}"
    with TrackerClient(tracked.address) as client:
        client.start_run(messages.StartRunRequest(run_id=run_id, attempt=5))
        assert in_pipe(tracked.address, "stop", run_id).code == 0
        assert client.get_run(run_id).run.stop_requested
        beat = messages.HeartbeatRequest(run_id=run_id, attempt=5)
        assert wait_until(lambda: client.heartbeat(beat).stop_requested, 30, interval=0.05)
        assert in_pipe(tracked.address, "stop", run_id, "--undo").code == 0
        assert not client.get_run(run_id).run.stop_requested


def test_stop_makes_no_run_and_stops_none_that_has_ended(tracked: Tracked) -> None:
    missing = f"missing-{uuid.uuid4().hex[:8]}"
    assert in_pipe(tracked.address, "stop", missing).code == 1
    assert in_pipe(tracked.address, "show", missing).code == 1
    done = in_pipe(tracked.address, "stop", tracked.good)
    assert (done.code, done.err) == (1, f"tracker: run {tracked.good} is completed already\n")
