"""For the tests of the cache on Redis: a database to commit to, processes that read through, a server to break."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
import redis

from deploy.servers import Redis
from tracker_server.cache.breaker import Breaker
from tracker_server.cache.redis import RedisCache
from tracker_server.read_through import ReadThrough

PATIENT = 10.0
"""A time-out for tests that are not about time."""
_CHANGED = ("maxmemory", "maxmemory-policy", "requirepass")


class Source:
    """The database: one number per scope, which commits raise."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.loads = 0
        self.loaded = asyncio.Event()
        self.may_return = asyncio.Event()
        self.may_return.set()

    def commit(self, scope: str) -> int:
        self.versions[scope] = self.versions.get(scope, 0) + 1
        return self.versions[scope]

    async def load(self, scope: str) -> bytes:
        self.loads += 1
        value = b"%d" % self.versions.get(scope, 0)
        self.loaded.set()
        await self.may_return.wait()
        return value


class Process:
    """A process of ours: reads through a cache, and can bump it."""

    def __init__(self, url: str, source: Source, timeout_seconds: float, *, quick: bool) -> None:
        self.source = source
        breaker = Breaker(first_seconds=0.005, longest_seconds=0.01) if quick else None
        self.cache = RedisCache(url, timeout_seconds=timeout_seconds, breaker=breaker)
        self.reads = ReadThrough(self.cache)

    async def get(self, scope: str = "s", key: str = "k") -> int:
        return int(await self.reads.get(scope, key, 300, lambda: self.source.load(scope)))

    async def close(self) -> None:
        await self.reads.close()
        await self.cache.close()


Start = Callable[..., Process]


class Proxy:
    """Stands before a server. Told to cut: passes commands on, and closes instead of passing the reply back."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cut = False
        self.has_cut = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.tasks: list[asyncio.Task[None]] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self.listener = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self.listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()
        self.open.set()
        for writer in self.writers:
            writer.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks += [task for task in (asyncio.current_task(),) if task]
        await self.open.wait()
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers += [writer, to_server]

        async def pass_replies() -> None:
            while reply := await from_server.read(65536):
                if self.cut:
                    self.cut = False
                    self.open.clear()
                    self.has_cut.set()
                    break
                writer.write(reply)
            writer.close()

        replies = asyncio.create_task(pass_replies())
        with contextlib.suppress(ConnectionError):
            while commands := await reader.read(65536):
                to_server.write(commands)
        to_server.close()
        await replies
        for each in (writer, to_server):
            with contextlib.suppress(ConnectionError):
                await each.wait_closed()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def start(source: Source) -> AsyncIterator[Start]:
    """Starts processes; in the end none of them may have left a task behind."""
    begun: list[Process] = []

    def start(url: str, timeout_seconds: float = PATIENT, *, quick: bool = False) -> Process:
        begun.append(Process(url, source, timeout_seconds, quick=quick))
        return begun[-1]

    yield start
    for process in begun:
        await process.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture(scope="module")
def own_redis_server(servers_directory: Path) -> Iterator[Redis]:
    with Redis(servers_directory / "own-redis") as server:
        yield server
    server.remove()


@pytest.fixture
def own_redis(own_redis_server: Redis) -> Iterator[Redis]:
    """A Redis that may be killed, stopped and set otherwise."""
    server = own_redis_server
    server.start()
    with contextlib.closing(redis.Redis.from_url(server.url)) as client:
        client.flushall()
        before = {name: client.config_get(name)[name] or "" for name in _CHANGED}
    yield server
    if server.running:
        server.resume()
        with contextlib.closing(redis.Redis.from_url(server.url)) as client:
            for name, value in before.items():
                client.config_set(name, value)


@pytest.fixture
def own_client(own_redis: Redis) -> Iterator[redis.Redis]:
    with contextlib.closing(redis.Redis.from_url(own_redis.url)) as client:
        yield client


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Waits for a condition."""
    for _ in range(int(seconds / 0.02)):
        if await condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"not within {seconds} s")
