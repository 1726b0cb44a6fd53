"""ReadThrough's rules, on the cache in memory and on one that is out of reach."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Collection

import pytest

from tracker_server.cache.memory import MemoryCache
from tracker_server.errors import ShuttingDown, StoreUnavailable
from tracker_server.ports import CacheEntry
from tracker_server.read_through import ReadThrough


class AwayCache:
    """A cache out of reach."""

    async def read(self, scope: str, key: str) -> CacheEntry:  # noqa: ARG002 - the port's
        await asyncio.sleep(0)
        return CacheEntry(None, b"")

    async def fill(self, scope: str, key: str, value: bytes, generation: bytes, ttl_seconds: int) -> None:
        pytest.fail(f"filled without a generation: {scope} {key} {value!r} {generation!r} {ttl_seconds}")

    async def bump(self, scopes: Collection[str]) -> Collection[str]:
        return scopes

    async def new_epoch(self) -> bool:
        return False

    async def ping(self) -> None:
        raise ConnectionError

    async def close(self) -> None:
        pass


class Source:
    """What is loaded from: a version that commits raise, and loads that go on when told to."""

    def __init__(self) -> None:
        self.version = 0
        self.loads: list[asyncio.Future[None]] = []
        self.failure: BaseException | None = None

    async def load(self) -> bytes:
        seen = self.version
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.loads.append(gate)
        await gate
        if self.failure is not None:
            raise self.failure
        return b"%d" % seen

    def release(self, number: int) -> None:
        self.loads[number].set_result(None)


@pytest.fixture
async def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
async def reads(cache: MemoryCache) -> AsyncIterator[ReadThrough]:
    reads = ReadThrough(cache)
    yield reads
    await close(reads)


@pytest.fixture
async def away() -> AsyncIterator[ReadThrough]:
    reads = ReadThrough(AwayCache())
    yield reads
    await close(reads)


async def close(reads: ReadThrough) -> None:
    await reads.close()
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not reads._flights
    assert not reads._running


async def settle() -> None:
    """Lets everything that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


def ask(reads: ReadThrough, source: Source, scope: str = "s", key: str = "k") -> asyncio.Task[bytes]:
    return asyncio.create_task(reads.get(scope, key, 300, source.load))


async def test_a_miss_loads_and_fills_and_then_hits(reads: ReadThrough) -> None:
    source = Source()
    first = ask(reads, source)
    await settle()
    source.release(0)
    assert await first == b"0"
    assert await ask(reads, source) == b"0"
    assert (reads.hits, reads.misses, reads.joined) == (1, 1, 0)


async def test_many_callers_share_one_load(reads: ReadThrough) -> None:
    source = Source()
    callers = [ask(reads, source) for _ in range(10)]
    await settle()
    callers += [ask(reads, source) for _ in range(10)]
    await settle()
    assert len(source.loads) == 1
    source.release(0)
    assert await asyncio.gather(*callers) == [b"0"] * 20
    assert (reads.hits, reads.misses, reads.joined) == (0, 1, 19)


async def test_other_keys_and_scopes_load_apart(reads: ReadThrough) -> None:
    source = Source()
    callers = [ask(reads, source, scope, key) for scope in "ab" for key in "cd"]
    await settle()
    assert len(source.loads) == 4
    for number in range(4):
        source.release(number)
    await asyncio.gather(*callers)


async def test_who_comes_after_a_bump_does_not_join_an_older_load(reads: ReadThrough, cache: MemoryCache) -> None:
    source = Source()
    early = ask(reads, source)
    await settle()
    source.version = 1
    await cache.bump(["s"])
    late = [ask(reads, source) for _ in range(3)]
    await settle()
    assert len(source.loads) == 2
    source.release(1)
    assert await asyncio.gather(*late) == [b"1"] * 3
    source.release(0)
    assert await early == b"0"
    assert await ask(reads, source) == b"1", "the older load's fill, though later, is not served"


async def test_who_comes_after_a_new_epoch_does_not_join_an_older_load(reads: ReadThrough, cache: MemoryCache) -> None:
    source = Source()
    early = ask(reads, source)
    await settle()
    source.version = 1
    await cache.new_epoch()
    late = ask(reads, source)
    await settle()
    source.release(0)
    source.release(1)
    assert await early == b"0"
    assert await late == b"1"


async def test_a_cancelled_caller_leaves_the_others_their_load(reads: ReadThrough) -> None:
    source = Source()
    callers = [ask(reads, source) for _ in range(3)]
    await settle()
    callers[0].cancel()
    await settle()
    assert callers[0].cancelled()
    source.release(0)
    assert await asyncio.gather(*callers[1:]) == [b"0"] * 2


async def test_a_load_that_nobody_waits_for_fills_all_the_same(reads: ReadThrough) -> None:
    source = Source()
    caller = ask(reads, source)
    await settle()
    caller.cancel()
    await settle()
    source.release(0)
    await settle()
    assert await ask(reads, source) == b"0"
    assert (reads.hits, reads.misses) == (1, 1)


async def test_a_failure_goes_to_all_who_wait_and_is_not_kept(reads: ReadThrough) -> None:
    source = Source()
    source.failure = StoreUnavailable()
    callers = [ask(reads, source) for _ in range(3)]
    await settle()
    source.release(0)
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert results == [source.failure] * 3
    source.failure = None
    again = ask(reads, source)
    await settle()
    source.release(1)
    assert await again == b"0"


async def test_a_failure_that_nobody_waits_for_is_silent(reads: ReadThrough) -> None:
    source = Source()
    source.failure = StoreUnavailable()
    caller = ask(reads, source)
    await settle()
    caller.cancel()
    await settle()
    source.release(0)
    await settle()
    assert not reads._flights


async def test_closing_fails_who_waits(reads: ReadThrough) -> None:
    source = Source()
    caller = ask(reads, source)
    await settle()
    await reads.close()
    with pytest.raises(ShuttingDown):
        await caller
    with pytest.raises(ShuttingDown):
        await ask(reads, source)


async def test_closing_fails_who_waits_for_a_load_that_has_not_begun(reads: ReadThrough) -> None:
    source = Source()
    caller = ask(reads, source)
    while not reads._tasks:  # noqa: ASYNC110 - one step of the loop at a time is the point
        await asyncio.sleep(0)
    assert not source.loads
    await reads.close()
    with pytest.raises(ShuttingDown):
        await asyncio.wait_for(caller, 5)


async def test_out_of_reach_nobody_joins_a_load_under_way(away: ReadThrough) -> None:
    source = Source()
    first = [ask(away, source) for _ in range(3)]
    await settle()
    assert len(source.loads) == 1, "who comes before it has begun shares it"
    source.version = 1
    second = [ask(away, source) for _ in range(3)]
    await settle()
    assert len(source.loads) == 1, "one at a time"
    source.release(0)
    assert await asyncio.gather(*first) == [b"0"] * 3
    await settle()
    assert len(source.loads) == 2
    source.version = 2
    third = ask(away, source)
    await settle()
    source.release(1)
    assert await asyncio.gather(*second) == [b"1"] * 3
    await settle()
    source.release(2)
    assert await third == b"2"
    assert (away.hits, away.misses, away.joined) == (0, 3, 4)


async def test_out_of_reach_a_failed_load_does_not_hold_up_the_next(away: ReadThrough) -> None:
    source = Source()
    source.failure = StoreUnavailable()
    first = ask(away, source)
    await settle()
    second = ask(away, source)
    await settle()
    source.release(0)
    with pytest.raises(StoreUnavailable):
        await first
    await settle()
    source.failure = None
    source.release(1)
    assert await second == b"0"


async def test_closing_fails_who_waits_for_the_next_load(away: ReadThrough) -> None:
    source = Source()
    callers = [ask(away, source)]
    await settle()
    callers.append(ask(away, source))
    await settle()
    await away.close()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [ShuttingDown] * 2


class FlickeringCache(AwayCache):
    """In reach at some moments and not at others."""

    def __init__(self, dice: random.Random) -> None:
        self.inner = MemoryCache()
        self.dice = dice

    async def read(self, scope: str, key: str) -> CacheEntry:
        entry = CacheEntry(None, b"") if self.dice.random() < 0.3 else await self.inner.read(scope, key)
        await pause(self.dice)
        return entry

    async def fill(self, scope: str, key: str, value: bytes, generation: bytes, ttl_seconds: int) -> None:
        await pause(self.dice)
        await self.inner.fill(scope, key, value, generation, ttl_seconds)


async def pause(dice: random.Random) -> None:
    for _ in range(dice.randrange(6)):
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(30))
async def test_no_read_is_older_than_a_bump_before_it(seed: int) -> None:
    """Any interleaving: commits, bumps, loads, cancelled callers, a cache that comes and goes."""
    dice = random.Random(seed)
    cache = FlickeringCache(dice)
    reads = ReadThrough(cache)
    version = bumped = 0

    async def load() -> bytes:
        await pause(dice)
        seen = version
        await pause(dice)
        if dice.random() < 0.1:
            raise StoreUnavailable
        return b"%d" % seen

    async def write() -> None:
        nonlocal version, bumped
        for _ in range(30):
            await pause(dice)
            version += 1
            mine = version
            await pause(dice)
            await cache.inner.bump(["s"])
            bumped = max(bumped, mine)

    async def read() -> None:
        for _ in range(60):
            await pause(dice)
            least = bumped
            caller = asyncio.create_task(reads.get("s", "k", 300, load))
            if dice.random() < 0.2:
                await pause(dice)
                caller.cancel()
            with contextlib.suppress(StoreUnavailable, asyncio.CancelledError):
                assert int(await caller) >= least

    await asyncio.gather(write(), *(read() for _ in range(8)))
    assert reads.hits
    assert reads.misses
    assert reads.joined
    await close(reads)
