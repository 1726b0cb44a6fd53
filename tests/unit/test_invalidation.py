"""The Invalidator: when it bumps what, with a clock that is set by hand."""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from tests.turns import within
from tracker_server.invalidation import Invalidator
from tracker_server.ports import CacheEntry


class FakeTimer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[tuple[float, int, FakeTimer, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer()
        heapq.heappush(self._timers, (self.now + delay, next(self._numbers), timer, callback))
        return timer

    @property
    def timers(self) -> int:
        return sum(not timer.cancelled for _, _, timer, _ in self._timers)

    async def advance(self, seconds: float) -> None:
        """Passes the time in order: each timer at its moment, and what follows from it."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end + 1e-9:
            at, _, timer, callback = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            if not timer.cancelled:
                callback()
                await settle()
        self.now = end


@dataclass
class FakeCache:
    """Notes what is asked of it, and when."""

    clock: FakeClock
    calls: list[tuple[float, str]] = field(default_factory=list)
    down: bool = False
    refused: frozenset[str] = frozenset()
    gate: asyncio.Event | None = None
    """Where set: every call waits for it."""

    async def read(self, scope: str, key: str) -> CacheEntry:
        raise NotImplementedError

    async def fill(self, scope: str, key: str, value: bytes, generation: bytes, ttl_seconds: int) -> None:
        raise NotImplementedError

    async def bump(self, scopes: Collection[str]) -> Collection[str]:
        at = self.clock.now
        if self.gate:
            await self.gate.wait()
        if self.down:
            self.calls.append((at, "failed"))
            return list(scopes)
        self.calls += [(at, scope) for scope in scopes if scope not in self.refused]
        return [scope for scope in scopes if scope in self.refused]

    async def new_epoch(self) -> bool:
        at = self.clock.now
        if self.gate:
            await self.gate.wait()
        self.calls.append((at, "failed" if self.down else "EPOCH"))
        return not self.down

    async def ping(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def names(self) -> list[str]:
        return [name for _, name in self.calls]

    def times(self, name: str) -> list[float]:
        return [round(at - 100, 3) for at, each in self.calls if each == name]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def cache(clock: FakeClock) -> FakeCache:
    return FakeCache(clock)


@pytest.fixture
def wait_seconds() -> float:
    """How long a commit waits for its bumps, by the real clock: where nothing hangs, nobody waits so long."""
    return 60.0


@pytest.fixture
async def invalidator(cache: FakeCache, clock: FakeClock, wait_seconds: float) -> AsyncIterator[Invalidator]:
    invalidator = Invalidator(cache, clock=clock, wait_seconds=wait_seconds, random=lambda: 1.0)
    yield invalidator
    await invalidator.close(0.01)
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert clock.timers == 0


async def test_the_first_commit_bumps_at_once(invalidator: Invalidator, cache: FakeCache) -> None:
    await invalidator.committed(["a", "b", "a"])
    assert cache.names() == ["a", "b"]
    assert not invalidator.owes


async def test_at_most_one_bump_a_second_and_one_at_the_end(
    invalidator: Invalidator, cache: FakeCache, clock: FakeClock
) -> None:
    for _ in range(250):
        await invalidator.committed(["a"])
        await clock.advance(0.01)
    await clock.advance(10)
    assert cache.times("a") == pytest.approx([0, 1, 2, 3], abs=0.02)
    assert not invalidator.owes


async def test_scopes_do_not_wait_for_each_other(invalidator: Invalidator, cache: FakeCache, clock: FakeClock) -> None:
    await invalidator.committed(["a"])
    await clock.advance(0.5)
    await invalidator.committed(["a", "b"])
    assert cache.names() == ["a", "b"]
    await clock.advance(0.25)
    await invalidator.committed(["b"])
    await clock.advance(5)
    assert cache.times("a") == [0, 1]
    assert cache.times("b") == [0.5, 1.5]


async def test_after_a_quiet_second_a_commit_bumps_at_once(
    invalidator: Invalidator, cache: FakeCache, clock: FakeClock
) -> None:
    await invalidator.committed(["a"])
    await clock.advance(1)
    await invalidator.committed(["a"])
    assert cache.times("a") == [0, 1]


async def test_a_commit_during_a_bump_gets_one_of_its_own(
    invalidator: Invalidator, cache: FakeCache, clock: FakeClock
) -> None:
    cache.gate = asyncio.Event()
    first = asyncio.create_task(invalidator.committed(["a"]))
    await settle()
    await invalidator.committed(["a"])
    cache.gate.set()
    await first
    assert cache.times("a") == [0]
    await clock.advance(1)
    assert cache.times("a") == [0, 1]


@pytest.mark.parametrize("wait_seconds", [0.05])
async def test_a_hanging_cache_delays_a_commit_by_a_fraction_of_a_second(
    invalidator: Invalidator, cache: FakeCache, clock: FakeClock
) -> None:
    cache.gate = asyncio.Event()
    for number in range(5):
        await within(0.4, invalidator.committed([f"s{number}"]))
    assert invalidator.owes
    cache.gate.set()
    await settle()
    await clock.advance(1)
    assert set(cache.names()) == {f"s{number}" for number in range(5)}


async def test_a_cancelled_commit_loses_no_bump(invalidator: Invalidator, cache: FakeCache) -> None:
    cache.gate = asyncio.Event()
    caller = asyncio.create_task(invalidator.committed(["a"]))
    await settle()
    caller.cancel()
    await settle()
    cache.gate.set()
    await settle()
    assert cache.names() == ["a"]


async def test_what_failed_is_made_up_for_by_a_new_epoch_first(
    invalidator: Invalidator, cache: FakeCache, clock: FakeClock
) -> None:
    cache.down = True
    await invalidator.committed(["a"])
    await clock.advance(0.05)
    await invalidator.committed(["b"])
    assert cache.names() == ["failed"], "the second did not try"
    await clock.advance(30)
    failed = [at - 100 for at, _ in cache.calls]
    gaps = [later - earlier for earlier, later in itertools.pairwise(failed)]
    assert gaps[:5] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6], abs=0.01)
    assert gaps[5:] == pytest.approx([2.0] * len(gaps[5:]), abs=0.01)
    cache.calls.clear()
    cache.down = False
    await clock.advance(2)
    assert cache.names() == ["EPOCH"]
    assert not invalidator.owes
    await clock.advance(5)
    await invalidator.committed(["a"])
    assert cache.names() == ["EPOCH", "a"]


async def test_one_refused_scope_is_made_up_for(invalidator: Invalidator, cache: FakeCache, clock: FakeClock) -> None:
    cache.refused = frozenset({"b"})
    await invalidator.committed(["a", "b"])
    assert cache.names() == ["a"]
    await clock.advance(1)
    assert cache.names() == ["a", "EPOCH"]
    assert not invalidator.owes


async def test_a_commit_while_the_epoch_is_being_set_is_not_covered_by_it(
    invalidator: Invalidator, cache: FakeCache, clock: FakeClock
) -> None:
    cache.gate = asyncio.Event()
    callers = [asyncio.create_task(invalidator.takeover())]
    await settle()
    callers.append(asyncio.create_task(invalidator.committed(["a"])))
    await settle()
    cache.gate.set()
    await asyncio.gather(*callers)
    assert cache.names() == ["EPOCH", "a"]
    await clock.advance(5)
    assert cache.names() == ["EPOCH", "a"]


async def test_a_takeover_sets_a_new_epoch(invalidator: Invalidator, cache: FakeCache) -> None:
    await invalidator.takeover()
    assert cache.names() == ["EPOCH"]
    await invalidator.takeover()
    assert cache.names() == ["EPOCH", "EPOCH"]


async def test_a_takeover_during_another_sets_one_more(invalidator: Invalidator, cache: FakeCache) -> None:
    cache.gate = asyncio.Event()
    first = asyncio.create_task(invalidator.takeover())
    await settle()
    second = asyncio.create_task(invalidator.takeover())
    await settle()
    cache.gate.set()
    await asyncio.gather(first, second)
    assert cache.names() == ["EPOCH", "EPOCH"]


async def test_a_takeover_without_a_cache_stays_owed(
    invalidator: Invalidator, cache: FakeCache, clock: FakeClock
) -> None:
    cache.down = True
    await invalidator.takeover()
    assert invalidator.owes
    cache.down = False
    await clock.advance(0.2)
    assert cache.names() == ["failed", "EPOCH"]


async def test_a_fault_in_the_cache_loses_no_bump(
    invalidator: Invalidator, cache: FakeCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fault(scopes: Collection[str]) -> Collection[str]:
        raise ZeroDivisionError(scopes)

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(cache, "bump", fault)
        await invalidator.committed(["a"])
    assert [entry["event"] for entry in logs] == ["bumping cache generations failed"]
    assert invalidator.owes
    await clock.advance(1)
    assert cache.names() == ["EPOCH"]


async def test_closing_pays_what_is_owed(invalidator: Invalidator, cache: FakeCache) -> None:
    await invalidator.committed(["a", "b"])
    await invalidator.committed(["a", "b"])
    await invalidator.close()
    assert cache.names() == ["a", "b", "a", "b"]
    assert not invalidator.owes


@pytest.mark.parametrize("hanging", [False, True])
async def test_closing_is_bounded(invalidator: Invalidator, cache: FakeCache, hanging: bool) -> None:
    await invalidator.committed(["a"])
    await invalidator.committed(["a"])
    cache.down = True
    cache.gate = asyncio.Event()
    if not hanging:
        cache.gate.set()
    begun = time.monotonic()
    await within(2, invalidator.close(0.3))
    assert time.monotonic() - begun > 0.25
    assert invalidator.owes


async def test_what_passed_is_forgotten(invalidator: Invalidator, clock: FakeClock) -> None:
    for number in range(1000):
        await invalidator.committed([f"s{number}"])
        await clock.advance(0.1)
    assert len(invalidator._bumped) <= 20


async def test_a_scope_bumped_just_now_costs_microseconds(invalidator: Invalidator) -> None:
    scopes = [f"s{number}" for number in range(10)]
    await invalidator.committed(scopes)
    # In time of the processor: waiting is what none of them does.
    begun = time.thread_time()
    for _ in range(1000):
        await invalidator.committed(scopes)
    assert (time.thread_time() - begun) / 1000 < 0.000_5


async def test_on_the_real_clock(cache: FakeCache) -> None:
    invalidator = Invalidator(cache, interval_seconds=0.05)
    await invalidator.committed(["a"])
    await invalidator.committed(["a"])
    for _ in range(1000):
        if len(cache.calls) == 2:
            break
        await asyncio.sleep(0.01)
    assert cache.names() == ["a", "a"]
    await invalidator.close()
