"""The cache on a real Redis: races, evictions and confusions, driven on purpose.

The rule in all of them: a read that begins after a bump was complete never gets what was loaded before that bump.
"""

import asyncio
import contextlib
import random

import pytest
import redis

from deploy.servers import Redis
from tests.integration import redis_harness
from tests.integration.redis_harness import Process, Proxy, Source, Start
from tracker_server.cache.layout import Keys
from tracker_server.invalidation import Invalidator

# The fixtures, which pytest looks for here.
source, start = redis_harness.source, redis_harness.start
own_redis_server, own_redis, own_client = (
    redis_harness.own_redis_server,
    redis_harness.own_redis,
    redis_harness.own_client,
)


# ---------------------------------------------------------------- races


async def test_a_late_fill_after_a_bump_is_never_served(redis_url: str, source: Source, start: Start) -> None:
    reader, other, writer = start(redis_url), start(redis_url), start(redis_url)
    source.commit("s")
    source.may_return.clear()
    slow = asyncio.create_task(reader.get())
    await source.loaded.wait()  # it has read version 1, and has not stored it yet
    source.commit("s")
    assert list(await writer.cache.bump(["s"])) == []
    source.may_return.set()
    assert await other.get() == 2
    assert await slow == 1  # it had asked before
    for process in (reader, other, writer):
        assert await process.get() == 2


async def test_a_crash_between_commit_and_bump_heals_with_the_redelivery(
    redis_url: str, source: Source, start: Start
) -> None:
    reader = start(redis_url)
    source.commit("s")
    assert await reader.get() == 1
    source.commit("s")  # and the consumer dies before it bumps or acknowledges
    assert await reader.get() == 1
    after = start(redis_url)
    invalidator = Invalidator(after.cache)
    await invalidator.committed(["s"])  # the redelivery is a duplicate, and bumps all the same
    assert await reader.get() == 2
    await invalidator.close()


async def test_a_takeover_makes_up_for_bumps_that_died_with_their_process(
    redis_url: str, source: Source, start: Start
) -> None:
    reader, dead, heir = start(redis_url), start(redis_url), start(redis_url)
    invalidator = Invalidator(dead.cache, interval_seconds=300)
    source.commit("s")
    await invalidator.committed(["s"])
    assert await reader.get() == 1
    source.commit("s")
    await invalidator.committed(["s"])  # owes a trailing bump, acknowledges, dies
    assert invalidator.owes
    assert await reader.get() == 1
    successor = Invalidator(heir.cache)
    await successor.takeover()
    assert await reader.get() == 2
    await successor.close()
    await invalidator.close()


async def test_a_cancelled_caller_harms_nobody(redis_url: str, source: Source, start: Start) -> None:
    """Replies must never go to the wrong caller, wherever a cancellation hits."""
    process = start(redis_url)
    dice = random.Random(7)
    for number in range(50):
        source.versions[f"s{number}"] = number

    async def ask(number: int) -> None:
        assert await process.get(f"s{number}") == number

    for _ in range(60):
        numbers = [dice.randrange(50) for _ in range(20)]
        callers = [asyncio.create_task(ask(number)) for number in numbers]
        for _ in range(dice.randrange(12)):
            await asyncio.sleep(0)
        doomed = dice.sample(callers, 8)
        for caller in doomed:
            caller.cancel()
        for result in await asyncio.gather(*callers, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), result
    assert not process.cache.failures.kinds


@pytest.mark.parametrize("seed", range(6))
async def test_no_read_is_older_than_a_bump_before_it(redis_url: str, source: Source, start: Start, seed: int) -> None:
    """Any interleaving of reads, slow loads, commits, bumps, evictions, flushes, lost connections and cancellations."""
    dice = random.Random(seed)
    scopes = ["a", "b", "c"]
    bumped = dict.fromkeys(scopes, 0)
    readers, writers = (
        [start(redis_url, quick=True) for _ in range(3)],
        [start(redis_url, quick=True) for _ in range(2)],
    )
    writing = True

    async def pause() -> None:
        if dice.random() < 0.5:
            await asyncio.sleep(dice.random() * 0.004)
        else:
            await asyncio.sleep(0)

    async def load(scope: str) -> bytes:
        await pause()
        value = b"%d" % source.versions.get(scope, 0)
        await pause()
        return value

    async def write(process: Process) -> None:
        for _ in range(120):
            await pause()
            scope = dice.choice(scopes)
            version = source.commit(scope)
            await pause()
            if not await process.cache.bump([scope]):
                bumped[scope] = max(bumped[scope], version)

    async def read(process: Process) -> None:
        while writing:
            scope = dice.choice(scopes)
            least = bumped[scope]
            call = process.reads.get(scope, "k", 300, lambda scope=scope: load(scope))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            caller = asyncio.create_task(call)
            if dice.random() < 0.1:
                await pause()
                caller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert int(await caller) >= least
            await pause()

    async def disturb() -> None:
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(redis.asyncio.Redis.from_url(redis_url))
            while writing:
                await asyncio.sleep(dice.random() * 0.02)
                what = dice.randrange(4)
                if what == 0:
                    await client.delete(Keys("tracker").generation(dice.choice(scopes)))
                elif what == 1:
                    await client.delete("tracker:epoch")
                elif what == 2:
                    await client.flushdb()
                else:
                    await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]  # redis-py leaves it without types

    others = [asyncio.create_task(read(process)) for process in readers for _ in range(4)]
    others.append(asyncio.create_task(disturb()))
    await asyncio.gather(*(write(process) for process in writers))
    writing = False
    await asyncio.gather(*others)
    assert any(process.reads.hits for process in readers)
    assert any(process.reads.misses for process in readers)


async def test_a_bump_sent_twice_does_not_bring_its_first_generation_back(
    own_redis: Redis, source: Source, start: Start
) -> None:
    """It ran, its reply was lost, others went on from there, and then it is sent again."""
    async with Proxy(own_redis.port) as proxy:
        unlucky, other = start(proxy.url), start(own_redis.url)
        assert await unlucky.get() == 0
        assert await unlucky.get() == 0  # after its fill has been answered
        source.commit("s")
        proxy.cut = True
        bump = asyncio.create_task(unlucky.cache.bump(["s"]))
        await proxy.has_cut.wait()
        assert await other.get() == 1  # stored under the generation of the bump that is still waiting
        source.commit("s")
        assert not await other.cache.bump(["s"])
        proxy.open.set()
        assert not await bump
        assert await other.get() == 2
        await unlucky.close()


# ---------------------------------------------------------------- memory


async def test_under_memory_pressure_nothing_old_comes_back(
    own_redis: Redis, own_client: redis.Redis, source: Source, start: Start
) -> None:
    process = start(own_redis.url)
    scopes = [f"s{number}" for number in range(600)]
    own_client.config_set("maxmemory", 4 * 1024 * 1024)
    padding = b" " * 10_000

    async def get(scope: str) -> int:
        async def load() -> bytes:
            return await source.load(scope) + padding

        return int(await process.reads.get(scope, "k", 300, load))

    for round_ in range(3):
        for scope in scopes:
            source.commit(scope)
        assert not await process.cache.bump(scopes)
        for scope in scopes:
            assert await get(scope) == round_ + 1
    own_client.config_set("maxmemory", 1024 * 1024)
    generations = [Keys("tracker").generation(scope) for scope in scopes]
    assert own_client.exists(*generations) < len(scopes), "some generations were evicted"
    own_client.config_set("maxmemory", 0)
    for scope in scopes:
        source.commit(scope)
    assert not await process.cache.bump(scopes)
    for scope in scopes:
        assert await get(scope) == 4


async def test_a_full_server_that_evicts_nothing_can_still_be_told(
    own_redis: Redis, own_client: redis.Redis, source: Source, start: Start
) -> None:
    process = start(own_redis.url)
    source.commit("s")
    assert await process.get() == 1
    own_client.config_set("maxmemory-policy", "noeviction")
    own_client.config_set("maxmemory", 1)
    assert await process.get() == 1
    assert process.reads.hits == 1
    source.commit("s")
    assert not await process.cache.bump(["s"])
    assert await process.get() == 2
    assert process.cache.failures.kinds["out_of_memory"] > 0
    source.commit("s")
    assert await process.cache.new_epoch()
    own_client.config_set("maxmemory", 0)
    assert await process.get() == 3
    assert await process.get() == 3


async def test_keys_of_another_type_are_misses(redis_url: str, source: Source, start: Start) -> None:
    process = start(redis_url)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.rpush(Keys("tracker").generation("s"), "x")
        for expected in (1, 2):
            source.commit("s")
            assert await process.get() == expected
        assert process.cache.failures.kinds["wrong_type"] > 0
        assert not await process.cache.bump(["s"])
        assert await process.get() == 2
        assert await process.get() == 2
        assert process.reads.hits == 1
