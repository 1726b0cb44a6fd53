"""Leases with real processes: whoever is silent is lost, whoever lives is not, whatever was stopped meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from deploy.servers.processes import wait_until
from tests.e2e.deployment import Deployment
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import Attempt, MetricBlock, MetricColumn, Run, RunStatus
from tracker_server.model.leases import reason_of_loss

LEASE_SECONDS = 5
OUTAGE_SECONDS = 1.5 * LEASE_SECONDS
RUNNING, LOST = RunStatus.RUN_STATUS_RUNNING, RunStatus.RUN_STATUS_LOST


@pytest.fixture
def deployment(form: str, request: pytest.FixtureRequest) -> Deployment:
    """A tracker of its own with a short lease, in either form, running."""
    made: Deployment = request.getfixturevalue(form)
    made.environment |= {"TRACKER_LEASE_SECONDS": str(LEASE_SECONDS)}
    return made.start()


@contextmanager
def living(deployment: Deployment, run_id: str, every: float = 0.8) -> Iterator[set[int]]:
    """A run that sends heartbeats as a client does; yields the statuses that it is seen in meanwhile."""
    stub = deployment.stub()
    done = threading.Event()
    seen: set[int] = set()

    def beat() -> None:
        wait = 0.0
        while not done.wait(wait):
            try:
                stub.Heartbeat(public.HeartbeatRequest(run_id=run_id, attempt=1), timeout=5)
                wait = every
            except grpc.RpcError:
                wait = every / 4

    def look() -> None:
        while not done.wait(0.03):
            try:
                seen.add(stub.GetRun(public.GetRunRequest(run_id=run_id), timeout=5).run.status)
            except grpc.RpcError:
                continue

    threads = [threading.Thread(target=beat), threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        done.set()
        for thread in threads:
            thread.join()


def read(deployment: Deployment, run_id: str) -> tuple[Run, list[Attempt]]:
    """A run and its attempts."""
    answer = deployment.stub().GetRun(public.GetRunRequest(run_id=run_id), timeout=10, wait_for_ready=True)
    return answer.run, list(answer.attempts)


def start(deployment: Deployment, run_id: str) -> None:
    """Starts a run; more is not heard of it."""
    request = public.StartRunRequest(run_id=run_id, experiment_id="leases", attempt=1)
    token = deployment.stub().StartRun(request, timeout=10).write_token
    deployment.stub().GetRun(public.GetRunRequest(run_id=run_id, write_tokens=[token]), timeout=20)


def log(deployment: Deployment, run_id: str, sequence: int, *, replay: bool) -> None:
    """Logs a point, and waits until it is stored."""
    block = MetricBlock(steps=[sequence], columns=[MetricColumn(name="m", values=[1.0])])
    request = public.LogMetricsRequest(
        run_id=run_id, writer_id="writer-0123456789", sequence=sequence, attempt=1, blocks=[block], replay=replay
    )
    token = deployment.stub().LogMetrics(request, timeout=10).write_token
    deployment.stub().GetRun(public.GetRunRequest(run_id=run_id, write_tokens=[token]), timeout=20)


def wait_lost(deployment: Deployment, run_id: str, leases: float) -> float:
    """Returns when the run is lost; fails after so many leases."""
    began = time.monotonic()
    assert wait_until(lambda: read(deployment, run_id)[0].status == LOST, leases * LEASE_SECONDS, interval=0.05)
    return time.monotonic() - began


@pytest.mark.timeout(90)
def test_a_silent_run_is_lost_and_revived_by_what_comes_late_and_one_that_lives_never_is(
    deployment: Deployment,
) -> None:
    """The life of a run that falls silent, is replayed to, and comes back, beside one that does nothing but live."""
    info = deployment.stub().GetServerInfo(public.GetServerInfoRequest())
    assert (info.limits.lease_seconds, info.limits.heartbeat_seconds) == (LEASE_SECONDS, 1)
    with living(deployment, "living") as seen:
        start(deployment, "silent")
        assert wait_lost(deployment, "silent", 3) > LEASE_SECONDS - 1
        run, (attempt,) = read(deployment, "silent")
        assert run.lost_since.ToMilliseconds() == run.last_seen_at.ToMilliseconds() + 1000 * LEASE_SECONDS
        assert run.reason == attempt.reason == reason_of_loss(run.last_seen_at.ToMilliseconds())
        assert (attempt.status, attempt.lost_since) == (LOST, run.lost_since)
        summary = public.GetSummaryRequest(experiment_id="leases")

        def counts() -> dict[int, int]:
            answer = deployment.stub().GetSummary(summary, timeout=10)
            return {count.status: count.count for count in answer.run_counts}

        assert wait_until(lambda: counts() == {LOST: 1}, 5)
        log(deployment, "silent", 1, replay=True)
        assert read(deployment, "silent")[0].status == LOST
        log(deployment, "silent", 2, replay=False)
        run, (attempt,) = read(deployment, "silent")
        assert (run.status, run.reason, attempt.status, attempt.reason) == (RUNNING, "", RUNNING, "")
        assert not run.HasField("lost_since")
        assert wait_until(lambda: counts() == {RUNNING: 1}, 5)
    assert seen == {RUNNING}


@pytest.mark.timeout(120)
def test_a_service_that_was_stopped_for_longer_than_the_lease_loses_no_run_that_lives(deployment: Deployment) -> None:
    """Everything stops, and starts again: runs get a lease from then on, and one that is silent all the same is lost."""
    with living(deployment, "living") as seen:
        start(deployment, "silent")
        for tracker in deployment.trackers:
            tracker.terminate()
        for tracker in deployment.trackers:
            tracker.wait()
        time.sleep(OUTAGE_SECONDS)
        for tracker in deployment.trackers:
            tracker.launch()
        for tracker in deployment.trackers:
            tracker.wait_ready()
        assert wait_lost(deployment, "silent", 4) > LEASE_SECONDS - 1
    assert seen == {RUNNING}


@pytest.mark.timeout(120)
def test_a_backlog_of_longer_than_the_lease_loses_no_run_that_lives(full: Deployment) -> None:
    """No consumer works while two runs live and one of them dies: what comes of it is as if one had worked all the time."""
    full.environment |= {"TRACKER_LEASE_SECONDS": str(LEASE_SECONDS)}
    full.start()
    with living(full, "living") as seen:
        start(full, "silent")
        full.consumer.kill()
        time.sleep(OUTAGE_SECONDS)
        assert read(full, "silent")[0].status == RUNNING
        full.consumer.start()
        wait_lost(full, "silent", 3)
    assert seen == {RUNNING}
