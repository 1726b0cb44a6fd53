"""The battery of ports.Cache on both adapters."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from tests.contract.cache_contract import ODD_SCOPES, CacheContract, Subject
from tracker_server.cache.layout import Keys
from tracker_server.cache.memory import MemoryCache
from tracker_server.cache.redis import RedisCache


class TestMemoryCache(CacheContract):
    """In this process."""

    @pytest.fixture
    def now(self) -> list[float]:
        return [1000.0]

    @pytest.fixture
    async def subject(self, now: list[float]) -> AsyncIterator[Subject]:
        cache = MemoryCache(clock=lambda: now[0])

        async def evict(scope: str) -> None:
            cache._generations.pop(scope, None)

        async def flush() -> None:
            cache._values.clear()
            cache._generations.clear()

        async def tick() -> None:
            now[0] += 0.1

        yield Subject(cache, cache, evict, flush, tick)
        await cache.close()

    async def test_it_is_bounded_in_bytes(self) -> None:
        cache = MemoryCache(max_bytes=100_000)
        for i in range(100):
            await self.store(cache, f"s{i}", bytes(10_000))
        kept = [i for i in range(100) if (await cache.read(f"s{i}", "k")).value]
        assert kept
        assert len(kept) * 10_000 <= 100_000
        assert kept[-1] == 99

    async def test_a_value_larger_than_all_of_it_is_not_kept(self) -> None:
        cache = MemoryCache(max_bytes=1000)
        await self.store(cache, "s", b"small")
        await self.store(cache, "s", bytes(2000))
        assert (await cache.read("s", "k")).value is None

    async def test_scopes_beyond_the_bound_bring_nothing_back(self) -> None:
        cache = MemoryCache(max_scopes=3)
        await self.store(cache, "s", b"old")
        await cache.bump(["s"])
        for i in range(10):
            await cache.read(f"s{i}", "k")
        assert (await cache.read("s", "k")).value is None


class TestRedisCache(CacheContract):
    """On a real server."""

    @pytest.fixture
    async def subject(self, redis_url: str) -> AsyncIterator[Subject]:
        # Long time-outs: what is tested here is not how long a busy machine takes.
        cache, another = RedisCache(redis_url, timeout_seconds=10), RedisCache(redis_url, timeout_seconds=10)
        client = redis.asyncio.Redis.from_url(redis_url)

        async def evict(scope: str) -> None:
            await client.delete(Keys("tracker").generation(scope))

        async def flush() -> None:
            await client.flushdb()

        async def tick() -> None:
            await asyncio.sleep(0.02)

        yield Subject(cache, another, evict, flush, tick)
        assert not cache.failures.kinds
        await cache.close()
        await another.close()
        await client.aclose()

    async def test_prefixes_stay_apart(self, redis_url: str) -> None:
        one, two = RedisCache(redis_url, prefix="one"), RedisCache(redis_url, prefix="two")
        await self.store(one, "s", b"1")
        assert (await two.read("s", "k")).value is None
        await one.close()
        await two.close()

    async def test_an_evicted_epoch_brings_nothing_back(self, redis_url: str, subject: Subject) -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            old = await self.store(subject.cache, "s", b"old")
            await subject.cache.new_epoch()
            await client.delete("tracker:epoch")
            entry = await subject.cache.read("s", "k")
            assert entry.value is None
            assert entry.generation not in (b"", old)
            assert (await subject.another.read("s", "k")).generation == entry.generation

    @pytest.mark.parametrize("stored", [b"", b"T", b"TC1", b"TC0" + bytes(100), b"TC2" + bytes(100), bytes(200)])
    async def test_a_value_of_another_format_is_not_trusted(
        self, redis_url: str, subject: Subject, stored: bytes
    ) -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            generation = await self.store(subject.cache, "s", b"good")
            key = Keys("tracker").value("s", "k")
            assert await client.get(key) == b"TC1" + generation + b"good"
            for bad in (stored, b"TC2" + generation + b"good", (b"TC1" + generation)[:-1]):
                await client.set(key, bad)
                assert (await subject.cache.read("s", "k")).value is None
            await client.set(key, b"TC1" + generation)
            assert (await subject.cache.read("s", "k")).value == b""

    async def test_foreign_generations_are_replaced(self, redis_url: str, subject: Subject) -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            await client.set(Keys("tracker").generation("s"), "7")
            await client.set("tracker:epoch", "7")
            await self.store(subject.cache, "s", b"v")
            assert (await subject.another.read("s", "k")).value == b"v"

    @pytest.mark.parametrize("scope", ODD_SCOPES)
    def test_a_scopes_keys_share_a_slot_of_a_cluster(self, scope: str) -> None:
        keys = Keys("tracker")
        tags = {
            key.partition(b"{")[2].partition(b"}")[0]
            for key in (keys.generation(scope), keys.value(scope, "k"), keys.value(scope, "}{"))
        }
        assert len(tags) == 1
        assert tags != {b""}
