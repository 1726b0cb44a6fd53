"""Summaries are cached, and no old one is served, whatever happens to consumers and to Redis."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from deploy.servers import Redis
from deploy.servers.processes import wait_until
from tests.e2e.deployment import Deployment
from tests.e2e.progress import Progress, Watchers
from tests.e2e.recount import FRESH_SECONDS, wait_visible


@pytest.fixture
def own_redis(servers_directory: Path) -> Iterator[Redis]:
    """One that can be paused, flushed and killed."""
    server = Redis(servers_directory / "redis-of-staleness")
    server.start()
    yield server
    server.kill()
    server.remove()


@pytest.fixture
def cached(amqp_url: str, database_url: str, own_redis: Redis, tmp_path: Path) -> Iterator[Deployment]:
    """A running tracker with that Redis."""
    made = Deployment(tmp_path / "tracker", broker_url=amqp_url, database_url=database_url, cache_url=own_redis.url)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.mark.timeout(150)
def test_a_crash_between_commit_and_bump_leaves_no_stale_summary(cached: Deployment, own_redis: Redis) -> None:
    """A summary is cached; Redis stands still, so that the consumer commits the next write and cannot bump; there it is
    killed, and only then Redis goes on with the old summary in it. Once a consumer is back the summary is right, long
    before it would have expired. Three times."""
    stub = cached.stub()
    progress = Progress(stub)
    for _ in range(3):
        wait_visible(stub, [progress.advance()])
        progress.wait_summarized(FRESH_SECONDS)
        own_redis.pause()
        progress.advance()
        assert wait_until(lambda: progress.stored() == progress.number, 20), cached.consumer.describe("stores nothing")
        cached.consumer.kill()
        own_redis.resume()
        cached.consumer.start()
        progress.wait_summarized(FRESH_SECONDS)


@pytest.mark.timeout(150)
def test_an_evicted_generation_or_a_flushed_redis_bring_no_old_summary_back(
    cached: Deployment, own_redis: Redis
) -> None:
    """A summary is cached and its generation (or epoch, or everything) thrown out of Redis, at the same time as the next
    write is stored: the summary becomes the new one and never the old one again."""
    stub = cached.stub()
    progress = Progress(stub)
    wait_visible(stub, [progress.start_token])
    dice = random.Random(3)
    with (
        redis.Redis.from_url(own_redis.url) as client,
        Watchers(cached.server.address, progress.experiment_id, 2) as watchers,
    ):
        for _ in range(8):
            progress.wait_summarized(FRESH_SECONDS)
            for key in dice.sample(sorted(client.scan_iter()), k=2):
                client.delete(key)
            wait_visible(stub, [progress.advance()])
            progress.wait_summarized(FRESH_SECONDS)
            wait_visible(stub, [progress.advance()])
            own_redis.flush(0)
    assert not watchers.backward
    assert not watchers.failures
    assert watchers.reads


@pytest.mark.timeout(150)
def test_no_reader_ever_sees_a_summary_go_back(cached: Deployment, own_redis: Redis) -> None:
    """Eight readers poll the summary of a run that counts up, while consumers are killed and Redis is flushed, paused and
    killed. The number never goes back for any of them, no read fails, and in the end it is the newest."""
    stub = cached.stub()
    progress = Progress(stub)
    wait_visible(stub, [progress.start_token])
    spare = cached.add("consume").start()
    blows: tuple[Callable[[], object], ...] = (
        lambda: own_redis.flush(0),
        cached.consumer.kill,
        own_redis.pause,
        own_redis.resume,
        spare.kill,
        cached.consumer.launch,
        own_redis.kill,
        own_redis.start,
        lambda: own_redis.flush(0),
        spare.launch,
    )
    with Watchers(cached.server.address, progress.experiment_id, 8) as watchers:
        for blow in blows:
            for _ in range(30):
                progress.advance()
            blow()
        for _ in range(30):
            progress.advance()
        wait_visible(stub, [progress.token])
        progress.wait_summarized(FRESH_SECONDS)
    assert not watchers.backward
    assert not watchers.failures
