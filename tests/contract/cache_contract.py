"""What every adapter of ports.Cache has to do. A subclass gives the fixture `subject`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from tracker_server.ports import Cache

ALL_BYTES = bytes(range(256))
ODD_SCOPES = [
    "",
    "{",
    "}",
    "{}",
    "a",
    "a}{b",
    "a}:value:b",
    "a:gen",
    "%",
    "%7B",
    " ",
    "two words\r\n",
    "Zürich",
    "𝄞" * 256,
    "*",
    "\ud800",
]


@dataclass(frozen=True, slots=True)
class Subject:
    """An adapter, and the means to do to it what the world does."""

    cache: Cache
    another: Cache
    """Another process's view of the same; the same object where there is no such thing."""
    evict: Callable[[str], Awaitable[None]]
    """Makes the generation of a scope go away, as eviction does."""
    flush: Callable[[], Awaitable[None]]
    """Makes everything go away."""
    tick: Callable[[], Awaitable[None]]
    """Lets a little time pass."""


class CacheContract:
    """The battery."""

    async def test_an_unknown_key_is_a_miss_with_a_generation(self, subject: Subject) -> None:
        entry = await subject.cache.read("s", "k")
        assert entry.value is None
        assert entry.generation
        assert (await subject.another.read("s", "k")).generation == entry.generation
        assert (await subject.cache.read("s", "other")).generation == entry.generation
        assert (await subject.cache.read("other", "k")).generation != entry.generation

    @pytest.mark.parametrize("value", [b"", b"v", b"\x00", ALL_BYTES, b"TC1" + bytes(80), b"\r\n$-1\r\n"])
    async def test_a_filled_key_is_a_hit(self, subject: Subject, value: bytes) -> None:
        before = await subject.cache.read("s", "k")
        await subject.cache.fill("s", "k", value, before.generation, 300)
        for cache in (subject.cache, subject.another):
            after = await cache.read("s", "k")
            assert after.value == value
            assert after.generation == before.generation
        assert (await subject.cache.read("s", "other")).value is None
        assert (await subject.cache.read("other", "k")).value is None

    async def test_a_big_value_comes_back_whole(self, subject: Subject) -> None:
        value = ALL_BYTES * (5 * 1024 * 4)
        await self.store(subject.cache, "s", value)
        assert (await subject.another.read("s", "k")).value == value

    async def test_the_last_fill_of_a_generation_counts(self, subject: Subject) -> None:
        await self.store(subject.cache, "s", b"1")
        await self.store(subject.another, "s", b"2")
        assert (await subject.cache.read("s", "k")).value == b"2"

    async def test_a_bump_makes_a_scope_worthless_and_no_other(self, subject: Subject) -> None:
        await self.store(subject.cache, "bumped", b"old")
        await self.store(subject.cache, "kept", b"kept")
        before = await subject.cache.read("bumped", "k")
        assert list(await subject.another.bump(["bumped", "bumped", "unheard of"])) == []
        after = await subject.cache.read("bumped", "k")
        assert after.value is None
        assert after.generation != before.generation
        assert (await subject.cache.read("kept", "k")).value == b"kept"

    async def test_a_bump_of_nothing_and_of_very_much(self, subject: Subject) -> None:
        assert list(await subject.cache.bump([])) == []
        await self.store(subject.cache, "s999", b"old")
        assert list(await subject.cache.bump({f"s{i}" for i in range(2000)})) == []
        assert (await subject.cache.read("s999", "k")).value is None

    async def test_a_late_fill_is_never_served(self, subject: Subject) -> None:
        before = await subject.cache.read("s", "k")
        await subject.another.bump(["s"])
        await subject.cache.fill("s", "k", b"old", before.generation, 300)
        assert (await subject.cache.read("s", "k")).value is None
        await self.store(subject.cache, "s", b"new")
        await subject.cache.fill("s", "k", b"old", before.generation, 300)
        assert (await subject.cache.read("s", "k")).value in (None, b"new")

    async def test_an_evicted_generation_brings_nothing_back(self, subject: Subject) -> None:
        first = await self.store(subject.cache, "s", b"old")
        await subject.another.bump(["s"])
        for _ in range(3):
            await subject.evict("s")
            entry = await subject.cache.read("s", "k")
            assert entry.value is None
            assert entry.generation
            assert entry.generation != first
            await subject.cache.fill("s", "k", b"late", first, 300)
            assert (await subject.another.read("s", "k")).value is None

    async def test_after_a_flush_a_late_fill_is_never_served(self, subject: Subject) -> None:
        old = await self.store(subject.cache, "s", b"old")
        await subject.flush()
        assert (await subject.cache.read("s", "k")).value is None
        await subject.cache.fill("s", "k", b"old", old, 300)
        assert (await subject.another.read("s", "k")).value is None
        await self.store(subject.cache, "s", b"new")
        assert (await subject.another.read("s", "k")).value == b"new"

    async def test_a_new_epoch_makes_everything_worthless(self, subject: Subject) -> None:
        old = {scope: await self.store(subject.cache, scope, b"old") for scope in ("a", "b")}
        assert await subject.another.new_epoch()
        for scope, generation in old.items():
            assert (await subject.cache.read(scope, "k")).value is None
            await subject.cache.fill(scope, "k", b"late", generation, 300)
            assert (await subject.cache.read(scope, "k")).value is None
            await self.store(subject.cache, scope, b"new")
            assert (await subject.another.read(scope, "k")).value == b"new"

    async def test_a_value_goes_when_its_time_is_over(self, subject: Subject) -> None:
        entry = await subject.cache.read("s", "k")
        await subject.cache.fill("s", "k", b"short", entry.generation, 1)
        await subject.cache.fill("s", "other", b"long", entry.generation, 300)
        for _ in range(1000):
            if (await subject.cache.read("s", "k")).value is None:
                break
            await subject.tick()
        assert (await subject.cache.read("s", "k")).value is None
        assert (await subject.cache.read("s", "other")).value == b"long"

    async def test_scopes_and_keys_of_any_characters_stay_apart(self, subject: Subject) -> None:
        addresses = [(scope, key) for scope in ODD_SCOPES for key in ("", "k", "gen", "value:", "}:gen", "b}:value:k")]
        for number, (scope, key) in enumerate(addresses):
            entry = await subject.cache.read(scope, key)
            assert entry.value is None
            await subject.cache.fill(scope, key, b"%d" % number, entry.generation, 300)
        for number, (scope, key) in enumerate(addresses):
            assert (await subject.another.read(scope, key)).value == b"%d" % number
        for scope in ODD_SCOPES:
            assert list(await subject.cache.bump([scope])) == []
            assert (await subject.another.read(scope, "gen")).value is None

    async def test_without_a_generation_nothing_is_stored(self, subject: Subject) -> None:
        await subject.cache.fill("s", "k", b"v", b"", 300)
        assert (await subject.cache.read("s", "k")).value is None

    async def test_ping(self, subject: Subject) -> None:
        await subject.cache.ping()

    @staticmethod
    async def store(cache: Cache, scope: str, value: bytes) -> bytes:
        """Fills key k as a reader does; the generation used."""
        generation = (await cache.read(scope, "k")).generation
        await cache.fill(scope, "k", value, generation, 300)
        return generation
