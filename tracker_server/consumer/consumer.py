"""The consumer's loop: fills a batch while the one before is being flushed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from tracker_server import limits
from tracker_server.consumer.announcer import Announcer
from tracker_server.consumer.batch import Batch, BatchLimits, Reason, SessionLost
from tracker_server.consumer.compactor import Compactor
from tracker_server.consumer.flusher import ConsumerStopped, Flusher
from tracker_server.consumer.purger import Purger
from tracker_server.consumer.share import Share
from tracker_server.errors import StoreUnavailable
from tracker_server.invalidation import Invalidator
from tracker_server.partitions import partition_of
from tracker_server.ports import Assignment, Delivery, Subscriber
from tracker_server.store.store import Store

_POLL_SECONDS = 0.25
"""How long the loop waits for a message before it looks around."""
_PATIENCE_SHARE = 0.5
"""Of the time that the last flush took, so long a batch waits for more."""
_PATIENCE_SECONDS = 0.01
"""At most."""
_SWEEP = 1_000
"""Runs with stale series that are refreshed at most after a takeover; the others wait for their next flush."""
_log = structlog.get_logger(__name__)


class Consumer:
    """Stores what the broker delivers, exactly once."""

    def __init__(
        self,
        subscriber: Subscriber,
        store: Store,
        assignment: Assignment,
        invalidator: Invalidator,
        announcer: Announcer,
        batch_limits: BatchLimits,
        *,
        interval_seconds: float,
        dead_limit: bool,
        compaction: bool,
        purge_seconds: float = 0.0,
    ) -> None:
        """interval_seconds: how often the share of partitions is renewed; dead_limit: stop when nearly all is dead;
        compaction: merge small chunks beside the flushes; purge_seconds: how often to look for what to purge, 0: never."""
        self._subscriber = subscriber
        self._store = store
        self._invalidator = invalidator
        self._announcer = announcer
        self._limits = batch_limits
        # One flush and one refresh of totals at a time.
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="store")
        self._flusher = Flusher(subscriber, store, invalidator, announcer, self._executor, dead_limit=dead_limit)
        self._share = Share(
            subscriber,
            assignment,
            drain=self._drain,
            took_over=self._took_over,
            interval_seconds=interval_seconds,
        )
        self._compactor = Compactor(store, holds=self._holds, busy=self._busy)
        self._compaction = compaction
        self._purger = Purger(store, invalidator, announcer.changed, self._holds, self._busy)
        self._purge_seconds = purge_seconds
        self._loop = asyncio.get_running_loop()
        self._flushing: asyncio.Task[None] | None = None
        self._flushing_counts: Counter[int] = Counter()
        self._quiet_since = 0.0
        """When a flush last ended."""
        self._answered = 0.0
        """When one last ended that a reader may have waited for."""
        self._flushing_awaited = False
        self._began = 0.0
        self._flushing_writes = 0
        self._callers = 0
        """Writes that were under way when a flush last ended: as many as may soon be waiting again."""
        self._patience = 0.0
        self._held_back: Delivery | None = None
        self._drains: list[asyncio.Future[None]] = []
        self._stop = asyncio.Event()

    @property
    def healthy(self) -> bool:
        """Whether messages can arrive and be stored."""
        return self._subscriber.connected and self._flusher.healthy

    @property
    def flusher(self) -> Flusher:
        """Its counters."""
        return self._flusher

    def stop(self) -> None:
        """Asks `run` to finish what was delivered and to return."""
        self._stop.set()

    async def run(self, grace_seconds: float) -> None:
        """Consumes until `stop`; then finishes within the grace. Raises ConsumerStopped when it gives up by itself."""
        await self._announcer.start()
        await self._subscriber.start()
        await self._share.renew()
        keeper = asyncio.create_task(self._share.keep(), name="keep share")
        work = asyncio.create_task(self._work(), name="consume")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        helpers = [keeper, stopped]
        if self._compaction:
            helpers.append(asyncio.create_task(self._compactor.keep(), name="compact"))
        if self._purge_seconds:
            helpers.append(asyncio.create_task(self._purger.keep(self._purge_seconds), name="purge"))
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await _cancelled(keeper)
                await self._finish(work, grace_seconds)
        finally:
            for task in (*helpers, work):
                await _cancelled(task)
            await self._compactor.close()
            await self._purger.close()
            if self._flushing is not None:
                await _cancelled(self._flushing)
            await self._flusher.close()
            await self._invalidator.close()
            await self._announcer.close()
            await self._share.close()
            self._executor.shutdown(wait=True)
        if work.done() and not work.cancelled():
            work.result()

    async def _finish(self, work: asyncio.Task[None], grace_seconds: float) -> None:
        """Takes nothing new and flushes the rest. What does not get done is delivered again to somebody else."""
        try:
            async with asyncio.timeout(grace_seconds):
                await self._share.stop()
                drained = asyncio.ensure_future(self._drain())
                await asyncio.wait({work, drained}, return_when=asyncio.FIRST_COMPLETED)
                await _cancelled(drained)
        except TimeoutError:
            _log.warning("not everything was flushed within the grace; it will be delivered again")

    async def _work(self) -> None:
        batch = Batch(self._subscriber.session)
        while True:
            reason = await self._fill(batch)
            await self._settle(batch)
            # The messages of an old channel come again on the new one.
            if batch and batch.session == self._subscriber.session:
                self._begin(batch, reason)
                if reason in (Reason.ALONE, Reason.DRAIN):
                    await self._settle(Batch(batch.session))
            if reason is Reason.DRAIN:
                for waiter in self._drains:
                    if not waiter.done():
                        waiter.set_result(None)
                self._drains.clear()
                if self._stop.is_set():
                    return
            batch = Batch(self._subscriber.session)

    def _begin(self, batch: Batch, reason: Reason) -> None:
        self._flushing_counts = batch.counts
        self._flushing_writes = len(batch.writes)
        self._flushing_awaited = batch.awaited
        self._began = self._loop.time()
        self._flushing = asyncio.create_task(self._flush(batch, reason), name="flush")

    async def _flush(self, batch: Batch, reason: Reason) -> None:
        await self._flusher.flush(batch)
        if self._compaction:
            self._compactor.flushed(batch.writes)
        _log.debug("flushed", reason=reason.value, writes=len(batch.writes), points=batch.points)
        for partition in {delivery.partition for delivery in batch.deliveries}:
            suspect = any(
                delivery.delivery_count >= limits.SUSPECT_DELIVERY_COUNT
                for delivery in batch.deliveries
                if delivery.partition == partition
            )
            await self._share.trust(partition, trusted=not suspect)
        if reason is Reason.WINDOW:
            await self._share.wants_more(self._full_windows(batch))

    async def _settle(self, batch: Batch) -> None:
        """Waits for the flush under way. batch: the next one."""
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            try:
                await flushing
            except SessionLost:
                _log.info("channel lost; unacknowledged messages will be delivered again")
            finally:
                self._flushing_counts = Counter()
                self._quiet_since = self._loop.time()
                if self._flushing_awaited:
                    self._answered = self._quiet_since
                self._callers = self._flushing_writes + len(batch.writes)
                self._patience = min((self._quiet_since - self._began) * _PATIENCE_SHARE, _PATIENCE_SECONDS)

    async def _fill(self, batch: Batch) -> Reason:
        """Adds deliveries until there is a reason to flush."""
        while True:
            reason = batch.full(self._limits)
            if reason is not None:
                return reason
            if self._full_windows(batch):
                if self._flushing is None:
                    return Reason.WINDOW
                # Half of the window is being flushed: its acknowledgement lets the rest of the batch come.
                await self._settle(batch)
                continue
            delivery = await self._next(batch)
            now = self._loop.time()
            if self._flushing is not None and self._flushing.done():
                await self._settle(batch)  # raises what made it end
            if delivery is None:
                reason = self._pause(batch, now)
                if reason is not None:
                    return reason
                # A closed broker says "nothing" at once, for ever: the loop must turn all the same.
                await asyncio.sleep(0)
                continue
            if batch and delivery.session != batch.session:
                # The channel is another one: what was gathered from the old one will come again.
                self._held_back = delivery
                return Reason.AGE
            if delivery.delivery_count >= limits.SUSPECT_DELIVERY_COUNT:
                if batch:
                    self._held_back = delivery
                    return Reason.ALONE
                batch.hold_suspect(delivery, now)
                return Reason.ALONE
            self._share.note_size(delivery.partition, len(delivery.body))
            batch.add(delivery, now)

    async def _next(self, batch: Batch) -> Delivery | None:
        if self._held_back is not None:
            held_back, self._held_back = self._held_back, None
            return held_back
        waiting = await self._subscriber.receive(0)
        if waiting is not None or self._drains:
            return waiting
        if not batch:
            return await self._subscriber.receive(_POLL_SECONDS)
        if self._flushing is not None and not self._flushing.done():
            # Whichever comes first: more to add, or the writer is free.
            receive = asyncio.ensure_future(self._subscriber.receive(_POLL_SECONDS))
            await asyncio.wait({receive, self._flushing}, return_when=asyncio.FIRST_COMPLETED)
            receive.cancel()
            await asyncio.wait({receive})
            return None if receive.cancelled() else receive.result()
        wait = self._due(batch) - self._loop.time()
        return await self._subscriber.receive(wait) if wait > 0 else None

    def _pause(self, batch: Batch, now: float) -> Reason | None:
        """Nothing is waiting: flush, unless the writer is busy or there was a flush just now."""
        if self._drains:
            return Reason.DRAIN
        if not batch or (self._flushing is not None and not self._flushing.done()):
            return None
        if now < self._due(batch):
            return None
        return Reason.AGE if now - batch.started >= self._limits.seconds else Reason.IDLE

    def _due(self, batch: Batch) -> float:
        """When an unfilled batch is flushed: at once after a quiet time, else so that small chunks stay few.

        Where callers wait for the flush, those that the last one answered are given a moment to come again: together
        they cost little more than one half of them, with the other half waiting for the next flush.

        What a reader may wait for does not wait because signs of life were flushed just now.
        """
        if not self._limits.seconds and len(batch.writes) < self._callers:
            return self._quiet_since + self._patience
        quiet_since = self._answered if batch.awaited else self._quiet_since
        return min(quiet_since, batch.started) + self._limits.seconds

    def _full_windows(self, batch: Batch) -> list[int]:
        return [
            partition
            for partition, count in batch.counts.items()
            if count + self._flushing_counts[partition] >= self._share.prefetch(partition)
        ]

    async def _drain(self) -> None:
        """Returns once everything delivered so far is flushed and acknowledged, or lost with its channel."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._drains.append(waiter)
        await waiter

    async def _took_over(self) -> None:
        await self._invalidator.takeover()
        with contextlib.suppress(StoreUnavailable):
            self._flusher.refresh(await self._flusher.call(self._store.stale_runs, _SWEEP))
        self._compactor.look_everywhere()

    def _busy(self) -> bool:
        return self._flushing is not None and not self._flushing.done()

    def _holds(self, run_id: str) -> bool:
        return partition_of(run_id, self._store.partitions) in self._share.held


async def _cancelled(task: asyncio.Future[Any]) -> None:
    """Cancels a task and waits for its end, whatever that is; run() raises what matters."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, ConsumerStopped, SessionLost):
        await task
