"""RabbitMQ, PostgreSQL and Redis killed, stopped and started again under load. The tracker's own processes live through
all of it: the tests of this file use the same ones, one after the other."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.servers import PostgreSQL, RabbitMQ, Redis, Server, start_all
from tests.e2e.deployment import Deployment
from tests.e2e.load import Failure, Load, call
from tests.e2e.processes import Tracker
from tests.e2e.progress import Progress, Watchers
from tests.e2e.pulse import Pulse
from tests.e2e.recount import recount, wait_visible
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1 import tracker_service_pb2_grpc as rpc

OUTAGE_SECONDS = 60.0
MEASURE_SECONDS = 2.0
MEASUREMENTS = 3
"""Of which the middle one counts."""
FAST_SECONDS = 1.0
"""For a call, beyond what the server's simplest answer takes at the same time."""
STALL_SECONDS = 3.0
"""For that simplest answer, whatever else the machine does: with more, the server itself would be standing still."""
GRACE_SECONDS = 10.0
CLOSING_SECONDS = 1.0
"""Beyond the grace a process ends itself after so long: `_CLOSING_SECONDS` in tracker_server/roles.py."""
ENDING_SECONDS = 2.0
"""From then on until it is gone: the kernel has to give it its turn, and to take its memory back."""
BACK_SECONDS = 30.0


@dataclass
class Stack:
    """A tracker and the servers it runs on."""

    deployment: Deployment
    rabbitmq: RabbitMQ
    redis: Redis
    postgresql: PostgreSQL


@pytest.fixture(scope="module")
def servers(servers_directory: Path) -> Iterator[tuple[RabbitMQ, Redis, PostgreSQL]]:
    """Servers that may be killed."""
    started = (
        RabbitMQ(servers_directory / "rabbitmq-of-outages"),
        Redis(servers_directory / "redis-of-outages"),
        PostgreSQL(servers_directory / "postgresql-of-outages"),
    )
    start_all(*started)
    yield started
    for server in started:
        server.remove()


@pytest.fixture(scope="module")
def tracker(
    servers: tuple[RabbitMQ, Redis, PostgreSQL], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Processes that have to live through all of it."""
    rabbitmq, redis, postgresql = servers
    made = Deployment(
        tmp_path_factory.mktemp("outages"),
        broker_url=rabbitmq.url,
        cache_url=redis.url,
        database_url=postgresql.url,
        broker_heartbeat_seconds="2",
    )
    try:
        made.start()
        # What RabbitMQ would write only after a while: else a queue, being new, might not survive a kill on a busy machine.
        rabbitmq.evaluate("[dets:sync(Table) || Table <- dets:all()]")
        yield made
    finally:
        made.close()


@pytest.fixture
def stack(servers: tuple[RabbitMQ, Redis, PostgreSQL], tracker: Deployment) -> Iterator[Stack]:
    """Everything running again before and after each test, the tracker's processes never started anew."""
    for server in servers:
        server.start()
    tracker.server.wait_ready()
    tracker.consumer.wait_ready()
    before = [process.pid for process in tracker.trackers]
    yield Stack(tracker, *servers)
    assert [process.pid for process in tracker.trackers if process.running] == before


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_without_rabbitmq_writes_fail_fast_and_everything_goes_on_by_itself(stack: Stack, how: str) -> None:
    """RabbitMQ is killed (or stopped in good order) under load. Health says NOT_SERVING; a write is answered within a
    second with UNAVAILABLE and RetryInfo; reads are answered. RabbitMQ comes back: so does health, callers that retried
    go on, and every acknowledged point is there once."""
    deployment = stack.deployment
    stub = deployment.stub()
    with (
        Pulse(deployment.server.address) as pulse,
        Load(deployment.addresses, callers=4, runs=4, rows=10, pause=0.01) as load,
    ):
        load.wait_acknowledged(100)
        (stack.rabbitmq.kill if how == "kill" else stack.rabbitmq.stop)()
        deployment.server.wait_health("NOT_SERVING", 10)
        took = []
        for number in range(20):
            began = time.monotonic()
            with pytest.raises(Failure) as caught:
                call(stub.LogMetric, public.LogMetricRequest(run_id="refused", name="loss", value=number), 10)
            took.append(time.monotonic() - began)
            failure = caught.value
            assert (failure.code.name, failure.reason) == ("UNAVAILABLE", "BROKER_UNAVAILABLE")
            assert failure.retry_after
        assert statistics.median(took) < FAST_SECONDS
        assert max(took) < FAST_SECONDS + pulse.slowest
        assert pulse.slowest < STALL_SECONDS
        call(stub.ListRuns, public.ListRunsRequest())
        stack.rabbitmq.start()
        deployment.server.wait_health("SERVING", BACK_SECONDS)
        deployment.consumer.wait_health("SERVING", BACK_SECONDS)
        load.wait_acknowledged(50)
        load.finish()
    assert {code for code, _ in load.failures} <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    recount(stub, load)
    with pytest.raises(Failure, match="NOT_FOUND"):
        call(stub.GetRun, public.GetRunRequest(run_id="refused"))


@pytest.mark.timeout(120)
def test_kills_of_postgresql_are_not_noticed_by_writers(stack: Stack) -> None:
    """PostgreSQL is killed under load and started again, three times: no write fails, every point is there once."""
    deployment = stack.deployment
    with Load(deployment.addresses, callers=4, runs=4, rows=10, pause=0.01) as load:
        for _ in range(3):
            load.wait_acknowledged(60)
            stack.postgresql.kill()
            load.wait_acknowledged(30)
            stack.postgresql.start()
            deployment.consumer.wait_health("SERVING", BACK_SECONDS)
        load.finish()
    assert not load.failures
    recount(deployment.stub(), load)


@pytest.mark.timeout(120)
def test_a_killed_redis_slows_no_read_and_no_write(stack: Stack) -> None:
    """Redis is killed under load while readers poll a summary, and started again later: no write and no read fails, none
    takes two seconds, the summary never goes back and in the end is right."""
    deployment = stack.deployment
    stub = deployment.stub()
    progress = Progress(stub)
    wait_visible(stub, [progress.start_token])
    with (
        Pulse(deployment.server.address) as pulse,
        Load(deployment.addresses, callers=2, runs=2, pause=0.02) as load,
        Watchers(deployment.server.address, progress.experiment_id, 2) as watchers,
    ):
        for blow in (stack.redis.kill, stack.redis.start, stack.redis.kill, stack.redis.start):
            for _ in range(50):
                progress.advance()
            blow()
        load.wait_acknowledged(50)
        wait_visible(stub, [progress.advance()])
        progress.wait_summarized(5)
        load.finish()
    assert not load.failures
    assert not watchers.failures
    assert not watchers.backward
    assert watchers.slowest < 2 * FAST_SECONDS + pulse.slowest
    assert pulse.slowest < STALL_SECONDS
    recount(stub, load)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", ["rabbitmq", "redis", "postgresql"])
def test_sigterm_ends_everything_within_the_grace_while_a_part_hangs(stack: Stack, part: str) -> None:
    """A part stands still (SIGSTOP: connections stay open and nothing answers) under load. A server and a consumer that
    are asked to end then do so within the grace, with exit code 0; every acknowledged point is there afterwards."""
    deployment = stack.deployment
    hung: Server = getattr(stack, part)
    with second_pair(deployment) as pair, Load(deployment.addresses, callers=4, runs=4, rows=5, pause=0.01) as load:
        load.wait_acknowledged(50)
        hung.pause()
        try:
            for process in pair:
                process.terminate()
            latest = time.monotonic() + GRACE_SECONDS + CLOSING_SECONDS + ENDING_SECONDS
            codes = [process.wait(max(0.0, latest - time.monotonic())) for process in pair]
        finally:
            hung.resume()
        assert codes == [0, 0], [process.describe("did not end well") for process in pair]
        load.wait_acknowledged(20)
        load.finish()
    recount(deployment.stub(), load)


@contextmanager
def second_pair(deployment: Deployment) -> Iterator[list[Tracker]]:
    """One more server and one more consumer."""
    pair = [deployment.add("serve"), deployment.add("consume")]
    try:
        yield [process.start() for process in pair]
    finally:
        for process in pair:
            process.kill()
            deployment.trackers.remove(process)


@pytest.mark.timeout(240)
def test_a_minute_without_postgresql_is_not_noticed_by_writers(stack: Stack) -> None:
    """PostgreSQL is stopped for a minute under load. Writes go on being acknowledged, at the end of the minute at no less
    than half the rate of before, or of afterwards, where the machine has less to give by then; health still says SERVING for writes, and NOT_SERVING for reads and of the consumer;
    heartbeats are answered; reads say UNAVAILABLE with RetryInfo, or come from the cache. Then everything appears by
    itself: every point once."""
    deployment = stack.deployment
    stub = deployment.stub()
    with Load(deployment.addresses, callers=4, runs=4, rows=5) as load:
        load.wait_acknowledged(50)
        before = rate(load)
        load.pause = 0.05
        stack.postgresql.stop()
        began = time.monotonic()
        deployment.consumer.wait_health("NOT_SERVING", 20)
        deployment.server.wait_health("NOT_SERVING", 20, "tracker.reads")
        while time.monotonic() - began < OUTAGE_SECONDS - MEASUREMENTS * MEASURE_SECONDS:
            with pytest.raises(Failure) as caught:
                call(stub.GetRun, public.GetRunRequest(run_id=load.run_ids[0]), 10)
            assert (caught.value.code.name, caught.value.reason) == ("UNAVAILABLE", "DATABASE_UNAVAILABLE")
            assert caught.value.retry_after
            assert summary_failure(stub, load.experiment_id) in ("", "DATABASE_UNAVAILABLE")
            call(stub.Heartbeat, public.HeartbeatRequest(run_id=load.run_ids[0]), FAST_SECONDS)
            assert deployment.server.health() == "SERVING"
            load.wait_acknowledged(100)
        load.pause = 0
        during = rate(load)
        stack.postgresql.start()
        deployment.consumer.wait_health("SERVING", BACK_SECONDS)
        deployment.server.wait_health("SERVING", BACK_SECONDS, "tracker.reads")
        newest = max((write for write in load.writes if write.token), key=lambda write: write.acknowledged_at)
        wait_visible(stub, [newest.token])
        after = rate(load)
        load.finish()
    assert not load.failures
    assert during >= 0.5 * min(before, after), (before, during, after)
    recount(stub, load)


def summary_failure(stub: rpc.TrackerServiceStub, experiment_id: str) -> str:
    """Why a summary cannot be had; empty when it comes, from the cache."""
    try:
        call(stub.GetSummary, public.GetSummaryRequest(experiment_id=experiment_id), 10)
    except Failure as failure:
        return failure.reason
    return ""


def rate(load: Load) -> float:
    """Acknowledged writes a second: the middle one of some measurements, as others use this machine in bursts."""
    found = []
    for _ in range(MEASUREMENTS):
        began = time.monotonic()
        while time.monotonic() - began < MEASURE_SECONDS:
            load.wait_acknowledged(10)
        end = time.monotonic()
        found.append(load.acknowledged_between(began, end) / (end - began))
    return statistics.median(found)
