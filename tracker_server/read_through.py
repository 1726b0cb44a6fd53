"""Reads through the cache: a hit, or one load for all who ask at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from tracker_server.errors import ShuttingDown
from tracker_server.ports import Cache

Load = Callable[[], Awaitable[bytes]]
_OUT_OF_REACH: Final = b""
_log = structlog.get_logger(__name__)


class ReadThrough:
    """Never hands out what was loaded before a bump that was complete when the caller arrived.

    With the cache within reach, a caller first reads the generation, and joins a running load only if that was begun
    under the same one. With the cache out of reach there is no generation to compare, so nobody joins a load that is
    under way: at most one runs per key, and all who arrive meanwhile share the one after it, which begins after
    they came. So the database sees one load per key at a time, and a caller waits for at most two of them.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._flights: dict[tuple[str, str, bytes], _Flight] = {}
        """Loads to join: begun under the generation in their key, or, out of reach, not yet begun."""
        self._running: dict[tuple[str, str], _Flight] = {}
        """Loads under way that were begun with the cache out of reach."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.hits = 0
        """Answers from the cache."""
        self.misses = 0
        """Loads."""
        self.joined = 0
        """Answers from somebody else's load."""

    async def get(self, scope: str, key: str, ttl_seconds: int, load: Load) -> bytes:
        """The cached bytes, or else what load returns, which is then cached.

        The load goes on when its caller is cancelled, since others may wait for it; so it has to bound its time itself.
        It runs in the context (contextvars) of the caller that caused it.
        Raises what load raises, to all who wait for it, and ShuttingDown once closed.
        """
        entry = await self._cache.read(scope, key)
        if entry.value is not None:
            self.hits += 1
            return entry.value
        if self._closed:
            raise ShuttingDown
        flight = self._flights.get((scope, key, entry.generation))
        if flight is None:
            flight = self._begin(_Flight(scope, key, entry.generation, ttl_seconds, load))
        else:
            self.joined += 1
        # Shielded: a caller that is cancelled leaves, and the load goes on.
        return await asyncio.shield(flight.result)

    async def close(self) -> None:
        """Cancels the loads under way; who waits for one gets ShuttingDown."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, flight: _Flight) -> _Flight:
        self.misses += 1
        self._flights[flight.joining] = flight
        before = self._running.get(flight.address) if flight.generation == _OUT_OF_REACH else None
        task = asyncio.create_task(self._fly(flight, before), name=f"load {flight.scope} {flight.key}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, flight))
        return flight

    def _ended(self, flight: _Flight, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not flight.result.done():  # cancelled before its first step
            flight.fail(ShuttingDown())
            self._forget(flight)

    async def _fly(self, flight: _Flight, before: _Flight | None) -> None:
        try:
            if before is not None:
                await asyncio.wait([before.result])
            if flight.generation == _OUT_OF_REACH:
                # From now on nobody joins it, and the next one waits for it.
                del self._flights[flight.joining]
                self._running[flight.address] = flight
            value = await flight.load()
        except asyncio.CancelledError:
            flight.fail(ShuttingDown())
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
            flight.fail(error)
        else:
            flight.land(value)
            await self._fill(flight, value)
        finally:
            # Until it is filled it may be joined: its data is of the generation that the next caller has read.
            self._forget(flight)

    def _forget(self, flight: _Flight) -> None:
        if self._flights.get(flight.joining) is flight:
            del self._flights[flight.joining]
        if self._running.get(flight.address) is flight:
            del self._running[flight.address]

    async def _fill(self, flight: _Flight, value: bytes) -> None:
        if flight.generation == _OUT_OF_REACH:
            return
        try:
            await self._cache.fill(flight.scope, flight.key, value, flight.generation, flight.ttl_seconds)
        except Exception:  # noqa: BLE001 - the port says "never"; the value itself has been handed out
            _log.exception("cache fill failed")


@dataclass(slots=True, eq=False)
class _Flight:
    """A load, and what comes of it."""

    scope: str
    key: str
    generation: bytes
    ttl_seconds: int
    load: Load
    result: asyncio.Future[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.result = asyncio.get_running_loop().create_future()

    @property
    def address(self) -> tuple[str, str]:
        return self.scope, self.key

    @property
    def joining(self) -> tuple[str, str, bytes]:
        return self.scope, self.key, self.generation

    def land(self, value: bytes) -> None:
        self.result.set_result(value)

    def fail(self, error: BaseException) -> None:
        self.result.set_exception(error)
        with contextlib.suppress(BaseException):
            self.result.exception()  # seen: nobody may be waiting any more
