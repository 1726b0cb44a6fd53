"""kill -9 of our own processes at random moments under load."""

import random

import pytest

from deploy.servers.processes import wait_until
from tests.e2e.deployment import Deployment
from tests.e2e.load import Load, call
from tests.e2e.recount import recount
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1 import tracker_service_pb2_grpc as rpc

CONSUMER_KILLS = 10
SERVER_KILLS = 3


# A watchdog: eleven starts of a consumer, of which each may take seconds on a machine that others use too.
@pytest.mark.timeout(300)
def test_ten_kills_of_the_consumer_lose_nothing_and_double_nothing(full: Deployment) -> None:
    """Ten times, as soon as a consumer has been seen to store points, it is killed a random number of writes later.
    Writes go on meanwhile without a single failure. In the end every point is there once and nothing is dead."""
    full.start()
    dice = random.Random(1)
    with Load(full.addresses, callers=4, runs=8, rows=10, pause=0.02) as load:
        for kill in range(CONSUMER_KILLS):
            if kill:
                full.consumer.launch()
            wait_until_it_stores(full, load)
            load.wait_acknowledged(dice.randrange(1, 40))
            full.consumer.kill()
            load.wait_acknowledged(5)
        full.consumer.start()
        load.finish()
    assert not load.failures
    recount(full.stub(), load)


@pytest.mark.timeout(120)
def test_kills_of_the_server_lose_nothing_that_was_acknowledged(deployment: Deployment) -> None:
    """The server (embedded: the one process) is killed under load and started again at the same address; callers send
    what was not acknowledged again, with the same numbers. Every point must be there once. After a last kill the
    callers give up: what was acknowledged by then must be there, and of the rest only whole writes, once."""
    dice = random.Random(2)
    server = deployment.server
    with Load(deployment.addresses, callers=4, runs=4, rows=10, pause=0.005) as load:
        for _ in range(SERVER_KILLS):
            load.wait_acknowledged(dice.randrange(30, 150))
            server.kill()
            server.start()
        load.wait_acknowledged(20)
        load.finish()
    assert load.failures
    recount(deployment.stub(), load)

    with Load(deployment.addresses, callers=8, runs=4, rows=200) as load:
        load.wait_acknowledged(dice.randrange(30, 100))
        server.kill()
        writes = load.give_up()
        assert any(not write.token for write in writes)
        server.start()
    recount(deployment.stub(), load, complete=False)


def wait_until_it_stores(deployment: Deployment, load: Load) -> None:
    """Returns when the number of points that can be read has grown."""
    stub = deployment.stub()
    before = points_stored(stub, load.experiment_id)
    assert wait_until(lambda: points_stored(stub, load.experiment_id) > before, 30, interval=0.02), (
        deployment.consumer.describe("stores nothing")
    )


def points_stored(stub: rpc.TrackerServiceStub, experiment_id: str) -> int:
    """As many as runs in the experiment say that they have."""
    listed = call(stub.ListRuns, public.ListRunsRequest(experiment_id=experiment_id)).runs
    answers = [call(stub.GetRun, public.GetRunRequest(run_id=run.run_id)) for run in listed]
    return sum(metric.count for answer in answers for metric in answer.metrics)
