"""The watchers of one server: who waits for what, and who wakes them when something has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from tracker_server import limits
from tracker_server.errors import StoreUnavailable, TooManyWatchers
from tracker_server.ports import ChangeFeed, Revisions

_log = structlog.get_logger(__name__)


class Watcher:
    """One stream. Woken, it reads the database: what it is told says only that there may be something."""

    def __init__(self) -> None:
        self.seen: Sequence[int] = ()
        """The revisions that it has read up to, by partition."""
        self._wake = asyncio.Event()

    async def changed(self, seconds: float) -> bool:
        """Waits until there may be something new; False: there was nothing for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def begin(self) -> None:
        """A read begins: what is told from here on it may miss."""
        self._wake.clear()

    def tell(self, revisions: Revisions) -> None:
        """Wakes it if it has not seen these."""
        seen = self.seen
        if any(revision > seen[partition] for partition, revision in revisions.items() if partition < len(seen)):
            self._wake.set()


class Watchers:
    """Wakes them by the notices of consumers, and, since those may be lost, by looking for itself from time to time."""

    def __init__(
        self,
        feed: ChangeFeed,
        look: Callable[[], Awaitable[Sequence[int]]],
        *,
        most: int,
        look_seconds: float = limits.WATCH_LOOK_SECONDS,
    ) -> None:
        """look: reads how far each partition has come; most: how many there may be."""
        self._feed = feed
        self._look = look
        self._most = most
        self._look_seconds = look_seconds
        self._watchers: set[Watcher] = set()
        self._looking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._watchers)

    async def start(self) -> None:
        """Begins to listen."""
        await self._feed.start(self.tell)
        self._looking = asyncio.create_task(self._keep_looking(), name="look for changes")

    async def close(self) -> None:
        """Listens no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        await self._feed.close()

    def add(self) -> Watcher:
        """One more. Raises TooManyWatchers."""
        if len(self._watchers) >= self._most:
            raise TooManyWatchers(
                f"this server keeps {self._most} watchers (TRACKER_MAX_WATCHERS), and takes no more",
                limit=str(self._most),
            )
        watcher = Watcher()
        self._watchers.add(watcher)
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """It waits no more."""
        self._watchers.discard(watcher)

    def tell(self, revisions: Revisions) -> None:
        """Wakes those who have not seen these."""
        for watcher in self._watchers:
            watcher.tell(revisions)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            if not self._watchers:
                continue
            try:
                self.tell(dict(enumerate(await self._look())))
            except StoreUnavailable:
                continue
            except Exception:  # noqa: BLE001  # whatever it is: logged, and looked for again
                _log.exception("looking for changes failed")
