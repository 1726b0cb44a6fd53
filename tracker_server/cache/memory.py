"""The cache of the embedded form: in this process, bounded by bytes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache, TLRUCache

from tracker_server.limits import MIB
from tracker_server.ports import CacheEntry

_GENERATION_BYTES: Final = 16
_OVERHEAD_BYTES: Final = 512
"""About what an entry takes beside its value: keys, objects, the tables' own space."""


@dataclass(frozen=True, slots=True)
class _Stored:
    generation: bytes
    value: bytes
    ttl_seconds: float


class MemoryCache:
    """ports.Cache in this process's memory. Used on one event loop only."""

    def __init__(
        self,
        *,
        max_bytes: int = 64 * MIB,
        max_scopes: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._values: TLRUCache[tuple[str, str], _Stored] = TLRUCache(
            maxsize=max_bytes,
            ttu=lambda _key, stored, now: now + stored.ttl_seconds,
            timer=clock,
            getsizeof=lambda stored: len(stored.value) + _OVERHEAD_BYTES,
        )
        # One that falls out costs misses and brings nothing old back, since the next one is random.
        self._generations: LRUCache[str, bytes] = LRUCache(maxsize=max_scopes)

    async def read(self, scope: str, key: str) -> CacheEntry:
        """Value and generation, taken together."""
        generation = self._generations.get(scope)
        if generation is None:
            generation = self._renew(scope)
        stored = self._values.get((scope, key))
        if stored is None or stored.generation != generation:
            return CacheEntry(None, generation)
        return CacheEntry(stored.value, generation)

    async def fill(self, scope: str, key: str, value: bytes, generation: bytes, ttl_seconds: int) -> None:
        """Stores a value, unless it is larger than the whole cache or of a generation that has passed."""
        if self._generations.get(scope) != generation:
            return
        try:
            self._values[scope, key] = _Stored(generation, value, ttl_seconds)
        except ValueError:  # larger than the whole cache
            self._values.pop((scope, key), None)

    async def bump(self, scopes: Collection[str]) -> Collection[str]:
        """Gives each scope a new random generation. Never fails."""
        for scope in scopes:
            self._renew(scope)
        return ()

    async def new_epoch(self) -> bool:
        """Forgets everything: the next reader of a scope begins a new generation."""
        self._values.clear()
        self._generations.clear()
        return True

    async def ping(self) -> None:
        """Is always within reach."""

    async def close(self) -> None:
        """Forgets everything."""
        await self.new_epoch()

    def _renew(self, scope: str) -> bytes:
        generation = secrets.token_bytes(_GENERATION_BYTES)
        self._generations[scope] = generation
        return generation
