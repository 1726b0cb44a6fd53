"""The cache on Redis, shared by all processes.

Per scope one generation, 16 random bytes; for everything together one epoch, 16 more. A value is stored behind the
generation and the epoch that were read before it was loaded, and the identity of the server they were read from. It is
served only while all three are what they were. So a late fill, an evicted key, a flushed, restored or replaced server
cost misses and bring nothing old back.

All calls of a process share one connection: what arrives while a round trip is under way makes up the next one, and
callers that read the same key share one command. Nobody's cancellation reaches the connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from redis.exceptions import OutOfMemoryError, ResponseError

from tracker_server.cache.breaker import Breaker
from tracker_server.cache.connection import RedisConnection
from tracker_server.cache.failures import Failures
from tracker_server.cache.layout import STAMP_BYTES, Keys, is_random, new_random, stamped, value_under
from tracker_server.cache.wire import Command, Reply
from tracker_server.limits import MIB
from tracker_server.ports import CacheEntry

TIMEOUT_SECONDS: Final = 0.25
"""For connecting, and for each reply. After the first that passes, the breaker keeps everybody from waiting."""
_ROUND_READS: Final = 128
_ROUND_BYTES: Final = 8 * MIB
"""A round trip takes no further write beyond this, so that it ends within the time-out."""
_BUMPS_PER_WRITE: Final = 256
_KEY_BYTES: Final = 256
"""About what a command on one key takes."""
_MISS: Final = CacheEntry(None, b"")


Build = Callable[[], Sequence[Command]]
"""Makes commands anew for each time they are sent."""


@dataclass(slots=True)
class _Write:
    """Commands that change something, and who waits for their replies (None: out of reach)."""

    build: Build
    count: int
    size: int
    done: asyncio.Future[list[Reply] | None]


_T = TypeVar("_T")
_Address = tuple[str, str]
_Readers = list[asyncio.Future[CacheEntry]]


class RedisCache:
    """ports.Cache on a single Redis (or one that looks like one). Used on one event loop only."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "tracker",
        timeout_seconds: float = TIMEOUT_SECONDS,
        breaker: Breaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects at the first use. Raises ValueError for a URL that is none."""
        self._url = url
        self._timeout = timeout_seconds
        self._connection = RedisConnection(url, timeout_seconds=timeout_seconds)
        self._keys = Keys(prefix)
        self._breaker = breaker or Breaker(clock=clock)
        self.failures = Failures(clock=clock)
        """What went wrong so far, by kind."""
        self._reads: dict[_Address, _Readers] = {}
        self._writes: list[_Write] = []
        self._pump: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._closed = False

    async def read(self, scope: str, key: str) -> CacheEntry:
        """Value and generation, taken together after the call began."""
        if not self._reachable():
            return _MISS
        reader: asyncio.Future[CacheEntry] = asyncio.get_running_loop().create_future()
        self._reads.setdefault((scope, key), []).append(reader)
        self._wake()
        return await reader

    async def fill(self, scope: str, key: str, value: bytes, generation: bytes, ttl_seconds: int) -> None:
        """Stores a value under the generation that `read` gave before it was loaded."""
        if len(generation) == STAMP_BYTES:
            stored = stamped(value, generation)
            command = (b"SET", self._keys.value(scope, key), stored, b"EX", ttl_seconds)
            replies = await self._write(lambda: [command], 1, len(stored))
            self._count_errors(replies or ())

    async def bump(self, scopes: Collection[str]) -> Collection[str]:
        """Gives each scope a new random generation. Returns those for which it failed, or may have."""
        wanted = list(dict.fromkeys(scopes))
        parts = [wanted[i : i + _BUMPS_PER_WRITE] for i in range(0, len(wanted), _BUMPS_PER_WRITE)]
        done = await asyncio.gather(*(self._renew([self._keys.generation(scope) for scope in part]) for part in parts))
        worked = [each for part in done for each in part]
        return [scope for scope, each in zip(wanted, worked, strict=True) if not each]

    async def new_epoch(self) -> bool:
        """Makes everything cached so far, in every scope, worthless. False: the cache is out of reach."""
        return (await self._renew([self._keys.epoch]))[0]

    async def ping(self) -> None:
        """Asks on a connection of its own. Raises redis.exceptions.RedisError or TimeoutError with the cause."""
        await self._ask((b"PING",))

    async def close(self) -> None:
        """Closes connections; who still waits gets a miss."""
        self._closed = True
        tasks = [task for task in (self._pump, self._probe) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._give_up()
        await self._connection.close()

    # ------------------------------------------------------------ whether to try

    def _reachable(self) -> bool:
        if self._closed:
            return False
        if self._breaker.closed:
            return True
        # The probe goes beside the calls, so that none of them waits for a server that is still dead.
        if self._breaker.probe_due():
            self._probe = asyncio.create_task(self._try_again(), name="redis cache probe")
        self.failures.skipped += 1
        return False

    async def _try_again(self) -> None:
        try:
            # What was cached before may be older than what was served from the database meanwhile, and whoever owes the
            # bumps may come back later than this process: so without its epoch, which the next read makes anew.
            await self._ask((b"DEL", self._keys.epoch))
        except Exception as error:  # noqa: BLE001 - whatever it is, the cache is not usable
            self._fail(error)
        else:
            self._breaker.success()
            self.failures.recovered()

    async def _ask(self, command: Command) -> None:
        connection = RedisConnection(self._url, timeout_seconds=self._timeout)
        try:
            (reply,), _ = await connection.exchange(lambda: [command])
        finally:
            await connection.close()
        if isinstance(reply, ResponseError):
            raise reply

    def _fail(self, error: Exception) -> None:
        self.failures.count(error)
        self._breaker.failure()

    def _count_errors(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if isinstance(reply, ResponseError):
                self.failures.count(reply)

    # ------------------------------------------------------------ writing

    async def _write(self, build: Build, count: int, size: int) -> list[Reply] | None:
        if not self._reachable():
            return None
        write = _Write(build, count, size, asyncio.get_running_loop().create_future())
        self._writes.append(write)
        self._wake()
        return await write.done

    async def _renew(self, keys: Sequence[bytes]) -> list[bool]:
        """Sets each key to a new random value; says which worked."""
        count, size = len(keys), _KEY_BYTES * len(keys)
        replies = await self._write(lambda: [(b"SET", key, new_random()) for key in keys], count, size)
        if replies is None:
            return [False] * count
        self._count_errors(replies)
        full = [i for i, reply in enumerate(replies) if isinstance(reply, OutOfMemoryError)]
        if full:
            # Removing is allowed to a server that is full, and as good: the next reader makes a new one.
            removed = await self._write(lambda: [(b"DEL", keys[i]) for i in full], len(full), size)
            for i, reply in zip(full, removed or [None] * len(full), strict=True):
                replies[i] = reply
        return [reply is not None and not isinstance(reply, ResponseError) for reply in replies]

    # ------------------------------------------------------------ round trips

    def _wake(self) -> None:
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name="redis cache")

    async def _run(self) -> None:
        try:
            while (self._reads or self._writes) and self._breaker.closed:
                writes, reads = self._take()
                try:
                    await self._round(writes, reads)
                except Exception as error:  # noqa: BLE001 - nothing that happens here may reach a caller
                    self._fail(error)
                finally:
                    _give_up(writes, reads)
        finally:
            self._pump = None
            self._give_up()

    def _take(self) -> tuple[list[_Write], dict[_Address, _Readers]]:
        size = count = 0
        while count < len(self._writes) and size < _ROUND_BYTES:
            size += self._writes[count].size
            count += 1
        writes, self._writes = self._writes[:count], self._writes[count:]
        reads, self._reads = self._reads, {}
        if len(reads) > _ROUND_READS:
            items = list(reads.items())
            reads, self._reads = dict(items[:_ROUND_READS]), dict(items[_ROUND_READS:])
        return writes, reads

    async def _round(self, writes: Sequence[_Write], reads: dict[_Address, _Readers]) -> None:
        addresses = [(self._keys.generation(scope), self._keys.value(scope, key)) for scope, key in reads]

        def build() -> list[Command]:
            commands = [command for write in writes for command in write.build()]
            if addresses:
                commands.append((b"GET", self._keys.epoch))
                commands.extend((b"MGET", *address) for address in addresses)
            return commands

        replies, server = await self._connection.exchange(build)
        at = 0
        for write in writes:
            _answer(write.done, replies[at : (at := at + write.count)])
        if reads:
            await self._answer_reads(reads, replies[at], replies[at + 1 :], server)

    async def _answer_reads(
        self, reads: dict[_Address, _Readers], epoch: Reply, pairs: Sequence[Reply], server: bytes
    ) -> None:
        self._count_errors((epoch, *pairs))
        lacking: dict[bytes, Reply] = {} if is_random(epoch) else {self._keys.epoch: epoch}
        missed: list[tuple[_Readers, bytes, Reply]] = []
        for ((scope, _), readers), pair in zip(reads.items(), pairs, strict=True):
            if isinstance(pair, ResponseError):
                continue  # a miss, like all that is left unanswered
            found, stored = pair
            if is_random(epoch) and is_random(found):
                stamp = b"".join((found, epoch, server))
                _answer_all(readers, CacheEntry(value_under(stamp, stored), stamp))
                continue
            key = self._keys.generation(scope)
            missed.append((readers, key, found))
            if not is_random(found):
                lacking[key] = found
        if lacking:
            made = await self._make(lacking)
            epoch = made.get(self._keys.epoch, epoch)
            for readers, key, found in missed:
                generation: Reply = made.get(key, found)
                if is_random(epoch) and is_random(generation):
                    _answer_all(readers, CacheEntry(None, b"".join((generation, epoch, server))))

    async def _make(self, lacking: dict[bytes, Reply]) -> dict[bytes, Reply]:
        """Gives keys that have none a random value, and reads them again: another process may have been first."""

        def build() -> list[Command]:
            commands: list[Command] = []
            for key, found in lacking.items():
                # What is there and not ours (None may also be another type, for which this fails) is replaced.
                commands.append((b"SET", key, new_random(), b"NX") if found is None else (b"SET", key, new_random()))
                commands.append((b"GET", key))
            return commands

        replies, _ = await self._connection.exchange(build)
        self._count_errors(replies)
        return dict(zip(lacking, replies[1::2], strict=True))

    def _give_up(self) -> None:
        writes, self._writes = self._writes, []
        reads, self._reads = self._reads, {}
        _give_up(writes, reads)


def _answer(future: asyncio.Future[_T], result: _T) -> None:
    if not future.done():  # who waited may have been cancelled
        future.set_result(result)


def _answer_all(readers: _Readers, entry: CacheEntry) -> None:
    for reader in readers:
        _answer(reader, entry)


def _give_up(writes: Sequence[_Write], reads: dict[_Address, _Readers]) -> None:
    """Answers all that are not yet answered: out of reach."""
    for write in writes:
        _answer(write.done, None)
    for readers in reads.values():
        _answer_all(readers, _MISS)
