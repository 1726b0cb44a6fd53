"""A consumer's share of the partitions: renewed every second, given up and taken over in an orderly way."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import structlog

from tracker_server import limits
from tracker_server.errors import StoreUnavailable
from tracker_server.ports import Assignment, Subscriber

_BUSY_SECONDS = 10.0
"""How long a partition counts as busy after its window was full."""
_BALANCE_SECONDS = 0.5
"""Between two changes of the windows for the sake of balance."""
_FORGETTING = 0.02
"""By how much of the difference each smaller message brings the noted size down."""
_log = structlog.get_logger(__name__)


def windows(
    held: Collection[int], trusted: Collection[int], busy: Collection[int], sizes: Mapping[int, int]
) -> dict[int, int]:
    """How many messages of each partition may be unacknowledged.

    sizes: bytes of a partition's messages, as size_class has them; one that is not there has the largest there are. As
    long as messages are no larger than that, all together stay within PREFETCH_BYTES: half of it is shared out evenly,
    the other half among the busy ones. Partitions that are not trusted yet get one message at a time.
    """
    if not held:
        return {}
    size = {partition: sizes.get(partition, limits.MAX_REQUEST_BYTES) for partition in sorted(held)}
    even = limits.PREFETCH_BYTES // (2 * len(held))
    window = {partition: max(1, even // bytes_each) for partition, bytes_each in size.items()}
    left = limits.PREFETCH_BYTES - sum(window[partition] * size[partition] for partition in window)
    for partition in busy:
        window[partition] += max(0, left // len(busy)) // size[partition]
    return {
        partition: min(count, limits.MAX_PREFETCH) if partition in trusted else 1 for partition, count in window.items()
    }


def size_class(size: float) -> int:
    """The power of two that bounds a size in bytes, from 4 KiB up to the largest message: windows change seldom."""
    return int(min(max(4_096, 2 ** math.ceil(math.log2(max(1.0, size)))), limits.MAX_REQUEST_BYTES))


class Share:
    """Which partitions are consumed, and how many messages of each may be unacknowledged."""

    def __init__(
        self,
        subscriber: Subscriber,
        assignment: Assignment,
        *,
        drain: Callable[[], Awaitable[None]],
        took_over: Callable[[], Awaitable[None]],
        interval_seconds: float,
    ) -> None:
        """drain: flushes and acknowledges what was delivered; took_over: called when partitions were acquired."""
        self._subscriber = subscriber
        self._assignment = assignment
        self._drain = drain
        self._took_over = took_over
        self._interval = interval_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="assignment")
        self._trusted: set[int] = set()
        self._sizes: dict[int, float] = {}
        """Bytes of a partition's messages lately: of the largest, forgotten slowly."""
        self._wanted: dict[int, float] = {}
        """When a partition last had its whole window delivered, by the loop's clock."""
        self._balanced = 0.0
        self._giving_up: asyncio.Task[None] | None = None
        self._applied: dict[int, int] = {}
        self._applied_classes: dict[int, int] = {}
        self._applying = asyncio.Lock()
        self.held: frozenset[int] = frozenset()
        """Partitions consumed now."""

    async def keep(self) -> None:
        """Renews until cancelled."""
        while True:
            await self.renew()
            await asyncio.sleep(self._interval)

    async def renew(self) -> None:
        """Says "alive", takes what is due and gives up what is not."""
        loop = asyncio.get_running_loop()
        try:
            wanted = await loop.run_in_executor(self._thread, self._assignment.renew)
        except StoreUnavailable:
            # Flushes fail too then, and take locks of their own: nothing can be applied twice meanwhile.
            return
        if self._giving_up is not None and not self._giving_up.done():
            return  # signed in all the same, so that nobody takes a long flush for a death
        surplus, gained = self.held - wanted, wanted - self.held
        self.held = wanted
        self._trusted &= wanted
        if gained:
            await self._took_over()
        if surplus or gained:
            await self._apply()
            _log.info("partitions", held=sorted(wanted), gained=sorted(gained), given_up=sorted(surplus))
        if surplus:
            self._giving_up = asyncio.create_task(self._give_up(surplus), name="give partitions up")

    def prefetch(self, partition: int) -> int:
        """How many messages of a partition may be unacknowledged."""
        return self._applied.get(partition, 1)

    def note_size(self, partition: int, size: int) -> None:
        """A message of so many bytes has come."""
        before = self._sizes.get(partition, 0.0)
        self._sizes[partition] = size if size >= before else before + (size - before) * _FORGETTING

    async def wants_more(self, partitions: Iterable[int]) -> None:
        """These partitions had their whole windows delivered: they get a larger part of what there is to share out."""
        now = asyncio.get_running_loop().time()
        for partition in partitions:
            self._wanted[partition] = now
        if now - self._balanced >= _BALANCE_SECONDS:
            self._balanced = now
            await self._apply()

    async def trust(self, partition: int, *, trusted: bool) -> None:
        """A partition begins with one message at a time, so that one that kills consumers takes no others with it;
        once a message was stored that nobody died of, it gets its whole window."""
        if partition not in self.held:
            return
        if (partition in self._trusted) is trusted:
            if self._classes().get(partition, 0) > self._applied_classes.get(partition, limits.MAX_REQUEST_BYTES):
                await self._apply()  # its messages have become larger: fewer of them
            return
        if trusted:
            self._trusted.add(partition)
        else:
            self._trusted.discard(partition)
        await self._apply()

    async def stop(self) -> None:
        """Consumes nothing any more. What was delivered is still to be flushed."""
        self.held = frozenset()
        await self._apply()

    async def close(self) -> None:
        """Gives every lock back."""
        if self._giving_up is not None:
            self._giving_up.cancel()
            await asyncio.wait([self._giving_up])
        await asyncio.get_running_loop().run_in_executor(self._thread, self._assignment.close)
        self._thread.shutdown(wait=True)

    async def _give_up(self, surplus: Collection[int]) -> None:
        """Unlocks partitions once all that they had delivered is flushed and acknowledged."""
        await self._drain()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._assignment.release, surplus)

    def _classes(self) -> dict[int, int]:
        return {partition: size_class(size) for partition, size in self._sizes.items()}

    async def _apply(self) -> None:
        async with self._applying:
            await self._apply_now()

    async def _apply_now(self) -> None:
        now = asyncio.get_running_loop().time()
        busy = {
            partition for partition in self.held if self._wanted.get(partition, -_BUSY_SECONDS) > now - _BUSY_SECONDS
        }
        self._applied_classes = self._classes()
        wanted = windows(self.held, self._trusted, busy, self._applied_classes)
        if wanted != self._applied:
            self._applied = wanted
            await self._subscriber.hold(wanted)
