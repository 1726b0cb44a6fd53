"""`tracker runs --watch`: the list, then a line for each run that changes, until Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.deployment import Deployment
from tests.e2e.terminal import COMMAND, environment, in_pipe
from tests.e2e.tracked import Tracked
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client.client import TrackerClient

INTERRUPTED = 130


class Watching:
    """The command as it runs, in a pipe."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._header: list[str] = []

    def row(self) -> dict[str, str]:
        """The next row of the list, or of what changes; the line of names is read with the first one."""
        if not self._header:
            self._header = self._line().split("\t")
        return dict(zip(self._header, self._line().split("\t"), strict=True))

    def item(self) -> dict[str, Any]:
        """The next object of `--json`."""
        found: dict[str, Any] = json.loads(self._line())
        return found

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C. Returns the exit code, and what was printed and not read."""
        self._process.send_signal(signal.SIGINT)
        rest, _ = self._process.communicate(timeout=30)
        return self._process.returncode, rest

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "it has ended"
        return line.rstrip("\n")


@contextmanager
def watching(address: str, *arguments: str) -> Iterator[Watching]:
    """Runs `tracker runs --watch`."""
    command = [COMMAND, "runs", "--watch", *arguments]
    with subprocess.Popen(command, env=environment(address), stdout=-1, stderr=-1, text=True) as process:
        try:
            yield Watching(process)
        finally:
            process.kill()


def start(client: TrackerClient, experiment_id: str) -> str:
    """Starts a run."""
    run_id = f"{experiment_id}-{uuid.uuid4().hex[:8]}"
    client.start_run(messages.StartRunRequest(run_id=run_id, experiment_id=experiment_id))
    return run_id


def log(client: TrackerClient, run_id: str, step: int) -> None:
    """Logs a point."""
    client.log_metric(messages.LogMetricRequest(run_id=run_id, name="loss", step=step, value=0.5))


def complete(client: TrackerClient, run_id: str) -> None:
    """Ends a run."""
    client.run_completed(messages.RunCompletedRequest(run_id=run_id, status=resources.RUN_STATUS_COMPLETED))


def new_experiment() -> str:
    """A name that nobody else uses."""
    return f"watch-{uuid.uuid4().hex[:8]}"


def test_the_list_comes_first_then_each_change_until_it_is_interrupted(tracked: Tracked) -> None:
    experiment = new_experiment()
    with TrackerClient(tracked.address) as client:
        old = start(client, experiment)
        with watching(tracked.address, "--experiment", experiment, "--metric", "loss") as watch:
            row = watch.row()
            assert (row["run_id"], row["status"], row["loss"], row["step"]) == (old, "running", "", "")
            log(client, old, 7)
            row = watch.row()
            assert (row["run_id"], row["status"], row["loss"], row["step"]) == (old, "running", "0.5", "7")
            new = start(client, experiment)
            assert watch.row()["run_id"] == new
            complete(client, new)
            row = watch.row()
            assert (row["run_id"], row["status"]) == (new, "completed")
            client.delete_run(messages.DeleteRunRequest(run_id=new))
            row = watch.row()
            assert (row["run_id"], row["status"]) == (new, "deleted")
            client.undelete_run(messages.UndeleteRunRequest(run_id=new))
            assert watch.row()["status"] == "completed"
            assert watch.interrupt() == (INTERRUPTED, "")


def test_json_gives_an_object_a_line_and_tells_the_list_from_the_changes(tracked: Tracked) -> None:
    experiment = new_experiment()
    with TrackerClient(tracked.address) as client:
        run = start(client, experiment)
        with watching(tracked.address, "--experiment", experiment, "--json") as watch:
            first = watch.item()
            assert (first["run_id"], first["metrics"], first["revision"], first["hidden"]) == (run, [], None, None)
            log(client, run, 3)
            second = watch.item()
            assert second.keys() == first.keys()
            assert [(metric["name"], metric["last"]["step"]) for metric in second["metrics"]] == [("loss", 3)]
            client.delete_run(messages.DeleteRunRequest(run_id=run))
            third = watch.item()
            assert (third["hidden"], third["status"]) == ("deleted", "running")
            assert third["revision"] > second["revision"]
            assert watch.interrupt()[0] == INTERRUPTED


def test_a_run_that_no_longer_meets_the_conditions_is_given_once_more_and_then_no_longer(tracked: Tracked) -> None:
    """The one beyond the limit of the list, too."""
    experiment = new_experiment()
    with TrackerClient(tracked.address) as client:
        one, other = start(client, experiment), start(client, experiment)
        arguments = ("--experiment", experiment, "--status", "running", "--filter", f"run_id = {experiment}-*")
        with watching(tracked.address, *arguments, "--limit", "1") as watch:
            assert watch.row()["run_id"] == other
            complete(client, one)
            row = watch.row()
            assert (row["run_id"], row["status"]) == (one, "completed")
            changed = messages.UpdateRunRequest(run_id=one, changes=messages.RunChanges(notes="no longer of interest"))
            client.update_run(changed)
            log(client, other, 1)
            row = watch.row()
            assert (row["run_id"], row["step"]) == (other, "1")
            assert watch.interrupt()[0] == INTERRUPTED


def test_it_outlives_a_server_that_is_away(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "tracker").start()
    try:
        with TrackerClient(deployment.server.address) as client:
            run = start(client, "e")
            with watching(deployment.server.address) as watch:
                assert watch.row()["run_id"] == run
                deployment.server.kill()
                deployment.server.start()
                complete(client, run)
                assert watch.row()["status"] == "completed"
                assert watch.interrupt()[0] == INTERRUPTED
    finally:
        deployment.close()


def test_a_filter_that_is_wrong_ends_it_at_once(tracked: Tracked) -> None:
    done = in_pipe(tracked.address, "runs", "--watch", "--filter", "status = DONE")
    assert (done.code, done.out) == (1, "")
    assert "at character 10" in done.err
