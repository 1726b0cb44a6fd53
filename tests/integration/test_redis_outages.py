"""The cache on Redis when the server is killed, stopped, silent, replaced or not let in: reads go on, and stay right."""

import asyncio
import contextlib
import time

import pytest
import redis
from redis.asyncio.connection import AbstractConnection

from deploy.servers import Redis
from deploy.servers.ports import free_port
from tests.integration import redis_harness
from tests.integration.redis_harness import Source, Start, until
from tests.turns import at_once
from tracker_server.cache import connection
from tracker_server.cache.layout import Keys
from tracker_server.cache.redis import TIMEOUT_SECONDS, RedisCache
from tracker_server.invalidation import Invalidator

_LOAD_TURNS = 5
"""Turns of the loop that reading from the database takes here: asking the cache is none of them."""

# The fixtures, which pytest looks for here.
source, start = redis_harness.source, redis_harness.start
own_redis_server, own_redis, own_client = (
    redis_harness.own_redis_server,
    redis_harness.own_redis,
    redis_harness.own_client,
)


async def test_flushall(own_redis: Redis, own_client: redis.Redis, source: Source, start: Start) -> None:
    process = start(own_redis.url)
    source.commit("s")
    assert await process.get() == 1
    source.commit("s")
    own_client.flushall()
    assert await process.get() == 2
    assert await process.get() == 2
    assert process.reads.hits == 1


async def test_a_closed_connection_costs_nothing(
    own_redis: Redis, own_client: redis.Redis, source: Source, start: Start
) -> None:
    process = start(own_redis.url)
    source.commit("s")
    assert await process.get() == 1
    own_client.client_kill_filter(_type="normal", skipme=True)
    assert await process.get() == 1
    assert process.reads.hits == 1
    assert not process.cache.failures.kinds


async def test_kill_and_restart(own_redis: Redis, source: Source, start: Start) -> None:
    reader, writer = start(own_redis.url), start(own_redis.url)
    invalidator = Invalidator(writer.cache)
    source.commit("s")
    assert await reader.get() == 1
    own_redis.kill()
    for _ in range(20):
        source.commit("s")
        await invalidator.committed(["s"])
        assert await reader.get() == source.versions["s"]
    assert invalidator.owes
    with pytest.raises(redis.ConnectionError):
        await reader.cache.ping()
    await asyncio.to_thread(own_redis.start)

    async def served() -> bool:
        hits = reader.reads.hits
        assert await reader.get() == source.versions["s"]
        return reader.reads.hits > hits

    async def paid() -> bool:
        return not invalidator.owes

    await until(served)
    await until(paid)
    await until(served)
    await invalidator.close()


async def test_a_server_restored_from_an_old_copy_brings_nothing_back(
    own_redis: Redis, own_client: redis.Redis, source: Source, start: Start
) -> None:
    before = start(own_redis.url)
    source.commit("s")
    assert await before.get() == 1
    own_client.save()
    source.commit("s")
    assert not await before.cache.bump(["s"])
    assert await before.get() == 2
    own_redis.kill()
    await asyncio.to_thread(own_redis.start)
    assert own_client.exists(Keys("tracker").value("s", "k")), "the copy is there, under the generation of its time"
    fresh = start(own_redis.url)
    assert await fresh.get() == 2
    assert fresh.reads.hits == 0
    (own_redis.data / "dump.rdb").unlink()


async def test_a_stopped_server_slows_nothing(own_redis: Redis, source: Source, start: Start) -> None:
    process = start(own_redis.url, TIMEOUT_SECONDS)
    invalidator = Invalidator(process.cache)
    source.commit("s")
    assert await process.get() == 1
    own_redis.pause()
    begun = time.perf_counter()
    await process.get("s0")
    assert time.perf_counter() - begun < 20 * TIMEOUT_SECONDS, "the first one waits for its time-out"
    assert process.cache.failures.kinds == {"timeout": 1}
    for number in range(1, 400):
        await at_once(process.get(f"s{number}"), _LOAD_TURNS)
        await asyncio.sleep(0.002)
    assert process.cache.failures.skipped == 399

    async def probed() -> bool:
        await at_once(process.get(), _LOAD_TURNS)
        return process.cache.failures.kinds["timeout"] > 1

    await until(probed)

    begun = time.perf_counter()
    for number in range(100):
        source.commit("s")
        await invalidator.committed(["s", f"s{number}"])
        assert await process.get() == source.versions["s"]
    assert time.perf_counter() - begun < 10

    own_redis.resume()

    async def paid() -> bool:
        return not invalidator.owes

    await until(paid)
    assert await process.get() == source.versions["s"]

    async def served() -> bool:
        hits = process.reads.hits
        assert await process.get() == source.versions["s"]
        return process.reads.hits > hits

    await until(served)
    await invalidator.close()


async def test_a_stopped_server_with_many_callers(own_redis: Redis, start: Start) -> None:
    process = start(own_redis.url, TIMEOUT_SECONDS)
    await process.get()
    own_redis.pause()

    async def call(number: int) -> None:
        begun = time.perf_counter()
        await process.get(f"s{number}")
        assert time.perf_counter() - begun < 20 * TIMEOUT_SECONDS
        for turn in range(1, 200):
            await at_once(process.get(f"s{number}", str(turn % 3)), _LOAD_TURNS)
            await asyncio.sleep(0.001)

    await asyncio.gather(*(call(number) for number in range(16)))
    assert process.cache.failures.skipped == 16 * 199, "all but the first of each"


async def test_a_big_fill_to_a_stopped_server_leaves_nothing_open(own_redis: Redis, start: Start) -> None:
    process = start(own_redis.url, TIMEOUT_SECONDS)
    entry = await process.cache.read("s", "k")
    own_redis.pause()
    begun = time.perf_counter()
    await process.cache.fill("s", "k", bytes(30_000_000), entry.generation, 300)
    assert time.perf_counter() - begun < 20 * TIMEOUT_SECONDS
    assert process.cache.failures.kinds == {"timeout": 1}
    await process.close()  # and no warning of an open transport, with -W error


async def test_nobody_listens(source: Source, start: Start) -> None:
    process = start(f"redis://127.0.0.1:{free_port()}/0", TIMEOUT_SECONDS)
    begun = time.perf_counter()
    for expected in range(1, 101):
        source.commit("s")
        assert await process.get() == expected
    assert time.perf_counter() - begun < 10
    assert list(await process.cache.bump(["a", "b"])) == ["a", "b"]
    assert not await process.cache.new_epoch()
    assert process.cache.failures.kinds["connection"] >= 1
    with pytest.raises(redis.ConnectionError):
        await process.cache.ping()


async def test_a_server_that_never_answers(source: Source, start: Start) -> None:
    closing = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closing.wait()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    process = start(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0", TIMEOUT_SECONDS)
    source.commit("s")
    begun = time.perf_counter()
    assert await process.get() == 1
    assert time.perf_counter() - begun < 20 * TIMEOUT_SECONDS
    for expected in range(2, 201):
        source.commit("s")
        assert await at_once(process.get(), _LOAD_TURNS) == expected
    assert process.cache.failures.skipped == 199
    begun = time.perf_counter()
    assert list(await process.cache.bump(["s"])) == ["s"]
    assert time.perf_counter() - begun < 20 * TIMEOUT_SECONDS
    with pytest.raises(TimeoutError):
        await process.cache.ping()
    await process.close()
    closing.set()
    listener.close()
    await listener.wait_closed()
    await asyncio.sleep(0.05)


async def test_a_server_that_leaves_while_the_connection_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the stream comes while redis-py still has the transport: noticed at once, not by a time-out."""
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while commands := await reader.read(65536):
            last = b"\r\nINFO\r\n" in commands
            writer.write(b"$12\r\nrun_id:short\r\n" if last else b"+OK\r\n" * commands.count(b"*"))
            if last:
                break
        writer.close()
        await writer.wait_closed()
        left.set()

    async def identify(made: AbstractConnection) -> bytes:
        identity = await real(made)
        await left.wait()
        await asyncio.sleep(0.05)  # until the end has arrived here, which nothing tells
        return identity

    real = connection._identity
    monkeypatch.setattr(connection, "_identity", identify)
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    made = connection.RedisConnection(url, timeout_seconds=30)
    begun = time.perf_counter()
    with pytest.raises(redis.ConnectionError):
        await made.exchange(lambda: [(b"PING",)])
    assert time.perf_counter() - begun < 15
    await made.close()
    listener.close()
    await listener.wait_closed()


async def test_a_server_that_speaks_something_else(source: Source, start: Start) -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    listener = await asyncio.start_server(web, "127.0.0.1", 0)
    process = start(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0", TIMEOUT_SECONDS)
    for expected in range(1, 51):
        source.commit("s")
        assert await process.get() == expected
    assert list(await process.cache.bump(["s"])) == ["s"]
    assert process.cache.failures.kinds
    await process.close()
    listener.close()
    await listener.wait_closed()
    await asyncio.sleep(0.05)


async def test_a_wrong_password(own_redis: Redis, own_client: redis.Redis, source: Source, start: Start) -> None:
    own_client.config_set("requirepass", "right")
    own_client.execute_command("AUTH", "right")  # type: ignore[no-untyped-call]  # redis-py leaves it without types
    for user in ("", ":wrong@"):
        process = start(own_redis.url.replace("//", f"//{user}"))
        for expected in range(1, 21):
            source.commit(user)
            assert await process.get(user) == expected
        assert process.cache.failures.kinds["authentication"] >= 1
        with pytest.raises(redis.AuthenticationError):
            await process.cache.ping()
    right = start(own_redis.url.replace("//", "//:right@"))
    assert await right.get() == 0
    assert await right.get() == 0
    assert right.reads.hits == 1
    own_client.config_set("requirepass", "")


async def test_a_closed_cache_is_out_of_reach(redis_url: str, source: Source, start: Start) -> None:
    process = start(redis_url)
    await process.get()
    await process.cache.close()
    source.commit("s")
    assert await process.get() == 1
    assert list(await process.cache.bump(["s"])) == ["s"]


async def test_callers_under_way_when_the_cache_closes_get_a_miss(own_redis: Redis, start: Start) -> None:
    process = start(own_redis.url)
    own_redis.pause()
    callers = [asyncio.create_task(process.get(f"s{number}")) for number in range(5)]
    await asyncio.sleep(0)
    await process.cache.close()
    assert await asyncio.gather(*callers) == [0] * 5


def test_a_url_that_is_none() -> None:
    with pytest.raises(ValueError, match="scheme"):
        RedisCache("http://somewhere")
