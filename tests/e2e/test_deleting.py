"""Deleting, restoring and purging, through real processes, in both forms."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.servers.processes import wait_until
from tests.e2e.conftest import _FIXTURES
from tests.e2e.deployment import Deployment
from tests.e2e.load import Failure, call
from tests.e2e.processes import run_command
from tests.e2e.recount import wait_visible
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1 import tracker_service_pb2_grpc as rpc
from tracker_client.client import TrackerClient

_RESTORE_SECONDS = 3
EXPERIMENT = "experiment"


@pytest.fixture
def brief(form: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """A tracker of its own that purges after three seconds."""
    urls: dict[str, Any] = {}
    if form == "full":
        urls = {f"{name}_url": request.getfixturevalue(fixture) for name, fixture in _FIXTURES.items()}
    made = Deployment(tmp_path / "tracker", restore_days=str(_RESTORE_SECONDS / 86_400), purge_seconds="0.2", **urls)
    try:
        yield made.start()
    finally:
        made.close()


def log(stub: rpc.TrackerServiceStub, run_id: str, sequence: int, writer: str, points: int = 5) -> str:
    """Logs points; returns the token."""
    columns = [resources.MetricColumn(name="loss", values=[0.5] * points)]
    block = resources.MetricBlock(steps=range(sequence * 100, sequence * 100 + points), columns=columns)
    request = public.LogMetricsRequest(run_id=run_id, writer_id=writer, sequence=sequence, blocks=[block])
    return str(call(stub.LogMetrics, request).write_token)


def reason(method: Callable[..., Any], request: Any) -> tuple[str, str]:
    """Reason and message of the error that a call is answered with."""
    with pytest.raises(Failure) as caught:
        call(method, request)
    return caught.value.reason, caught.value.details


@pytest.mark.timeout(120)
def test_a_run_is_deleted_restored_deleted_again_and_purged(brief: Deployment) -> None:
    stub, writer = brief.stub(), f"writer-{uuid.uuid4().hex}"
    assert call(stub.GetServerInfo, public.GetServerInfoRequest()).limits.restore_seconds == _RESTORE_SECONDS
    start = public.StartRunRequest(run_id="run", experiment_id=EXPERIMENT)
    keep = public.StartRunRequest(run_id="kept", experiment_id=EXPERIMENT)
    tokens = [call(stub.StartRun, start).write_token, call(stub.StartRun, keep).write_token]
    wait_visible(stub, [*tokens, log(stub, "run", 1, writer)])
    get = public.GetRunRequest(run_id="run")
    summary = public.GetSummaryRequest(experiment_id=EXPERIMENT)
    assert call(stub.GetSummary, summary).experiment.run_count == 2

    deleted = call(stub.DeleteRun, public.DeleteRunRequest(run_id="run")).write_token
    get.write_tokens[:] = [deleted]
    why, message = reason(stub.GetRun, get)
    assert why == "RUN_NOT_FOUND"
    assert "UndeleteRun restores it until" in message
    assert call(stub.GetRun, public.GetRunRequest(run_id="run", show_deleted=True)).run.HasField("deleted_at")
    # Cached before; renewed within a second.
    assert wait_until(lambda: call(stub.GetSummary, summary).experiment.run_count == 1, seconds=10)
    late = log(stub, "run", 2, writer)

    undeleted = call(stub.UndeleteRun, public.UndeleteRunRequest(run_id="run")).write_token
    get.write_tokens[:] = [undeleted, late]
    assert call(stub.GetRun, get).metrics[0].count == 10
    assert wait_until(lambda: call(stub.GetSummary, summary).experiment.run_count == 2, seconds=10)

    call(stub.DeleteRun, public.DeleteRunRequest(run_id="run"))
    shown = public.GetRunRequest(run_id="run", show_deleted=True)
    assert wait_until(lambda: purged(stub, shown), seconds=30)
    # Who writes on is not stopped, and who waits for it is told at once.
    dropped = log(stub, "run", 3, writer)
    call(stub.UndeleteRun, public.UndeleteRunRequest(run_id="run"))
    runs = public.ListRunsRequest(experiment_id=EXPERIMENT, write_tokens=[dropped])
    assert wait_until(lambda: reason(stub.ListRuns, runs)[0] == "RUN_PURGED", seconds=10)
    assert wait_until(lambda: "writes to purged runs dropped" in brief.consumer.log, seconds=10)
    runs = public.ListRunsRequest(experiment_id=EXPERIMENT, show_deleted=True)
    assert [run.run_id for run in call(stub.ListRuns, runs).runs] == ["kept"]
    assert purged(stub, shown)


@pytest.mark.timeout(60)
def test_who_watches_is_told_that_the_runs_of_an_experiment_went_and_came_back(calm: Deployment) -> None:
    experiment_id = f"watched-{uuid.uuid4().hex[:8]}"
    with TrackerClient(calm.server.address) as client:
        for number in range(3):
            client.start_run(public.StartRunRequest(run_id=f"{experiment_id}-{number}", experiment_id=experiment_id))
        last = public.StartRunRequest(run_id=f"{experiment_id}-last", experiment_id=experiment_id)
        begun = client.start_run(last).write_token
        client.get_run(last.run_id, write_tokens=[begun])
        changes = client.watch_runs(experiment_id, snapshot=True)
        hidden: dict[str, bool] = {}

        def watch_until(*, gone: bool) -> None:
            while len(hidden) < 4 or set(hidden.values()) != {gone}:
                updates = next(changes).updates
                hidden.update({one.run.run_id: one.HasField("experiment_deleted_at") for one in updates})

        watch_until(gone=False)
        client.delete_experiment(public.DeleteExperimentRequest(experiment_id=experiment_id))
        watch_until(gone=True)
        client.undelete_experiment(public.UndeleteExperimentRequest(experiment_id=experiment_id))
        watch_until(gone=False)


def purged(stub: rpc.TrackerServiceStub, request: public.GetRunRequest) -> bool:
    """Whether a run that was deleted is purged."""
    try:
        call(stub.GetRun, request)
    except Failure as error:
        return error.details.endswith("was deleted and is purged")
    return False


@pytest.mark.timeout(120)
def test_an_experiment_is_purged_by_hand_where_the_schedule_is_off(
    form: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Of the full form while everything runs; of the embedded one the file must be free."""
    urls: dict[str, Any] = {}
    if form == "full":
        urls = {f"{name}_url": request.getfixturevalue(fixture) for name, fixture in _FIXTURES.items()}
    made = Deployment(tmp_path / "tracker", purge_seconds="0", **urls)
    try:
        made.start()
        stub, writer = made.stub(), f"writer-{uuid.uuid4().hex}"
        for number in range(3):
            run_id = f"run-{number}"
            wait_visible(
                stub,
                [
                    call(stub.StartRun, public.StartRunRequest(run_id=run_id, experiment_id=EXPERIMENT)).write_token,
                    log(stub, run_id, 1, writer, 50),
                ],
            )
        token = call(stub.DeleteExperiment, public.DeleteExperimentRequest(experiment_id=EXPERIMENT)).write_token
        summary = public.GetSummaryRequest(experiment_id=EXPERIMENT, write_tokens=[token])
        assert reason(stub.GetSummary, summary)[0] == "EXPERIMENT_NOT_FOUND"
        if made.embedded:
            made.server.kill()
        done = run_command(made.environment, "purge")
        assert (done.returncode, done.stdout[:31]) == (0, "0 runs and 0 experiments purged"), done.stderr
        done = run_command(made.environment, "purge", "--experiment", EXPERIMENT)
        assert (done.returncode, done.stdout[:31]) == (0, "3 runs and 1 experiments purged"), done.stderr
        if made.embedded:
            made.server.start()
        listed = call(made.stub().ListExperiments, public.ListExperimentsRequest(show_deleted=True, page_size=9))
        assert list(listed.experiments) == []
    finally:
        made.close()
