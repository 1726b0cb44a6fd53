"""One flush from start to end: store, isolate what cannot be stored, bury it, tell of it, acknowledge."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

import structlog

from tracker_server import limits
from tracker_server.consumer.announcer import Announcer, lowest_ended
from tracker_server.consumer.batch import Batch, Letter, Origin, SessionLost, write_letter
from tracker_server.consumer.burial import Burial
from tracker_server.consumer.dead_limit import DeadLimit
from tracker_server.consumer.refresher import Refresher
from tracker_server.errors import BrokerUnavailable, QueueFull, StoreUnavailable, TrackerError
from tracker_server.invalidation import Invalidator
from tracker_server.model.watching import RunPosition
from tracker_server.model.writes import UpdateExperiment, Write
from tracker_server.ports import Subscriber
from tracker_server.store.flush import Outcome
from tracker_server.store.ledger import DeadWrite
from tracker_server.store.store import Store

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0
_DROPPED_LOG_SECONDS = 1.0
_DEAD_QUEUE_FULL = "the dead-letter queue is full: look at it with `tracker_server dead list`"
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class ConsumerStopped(TrackerError):
    """The consumer stopped by itself, since going on would do harm."""

    reason = "CONSUMER_STOPPED"


class Flusher:
    """Flushes batches, one at a time."""

    def __init__(
        self,
        subscriber: Subscriber,
        store: Store,
        invalidator: Invalidator,
        announcer: Announcer,
        executor: Executor,
        *,
        dead_limit: bool,
    ) -> None:
        self._subscriber = subscriber
        self._store = store
        self._invalidator = invalidator
        self._announcer = announcer
        self._executor = executor
        self._limit = DeadLimit() if dead_limit else None
        self._refresher = Refresher(lambda run_id: self.call(store.refresh_totals, run_id))
        self._burial = Burial(subscriber, self._mark_dead)
        self.healthy = True
        """Whether the database took the last flush."""
        self.points = 0
        """Points stored so far."""
        self.flushes = 0
        """Transactions so far."""
        self.duplicates = 0
        """Writes that had been applied before."""
        self.dead = 0
        """Writes that could not be stored."""
        self.dropped = 0
        """Writes to runs that were purged."""
        self._dropped_logged = float("-inf")

    async def flush(self, batch: Batch) -> None:
        """Returns when the batch is stored and acknowledged.

        Tries for ever while the database is out of reach. Raises SessionLost when the channel went away, and
        ConsumerStopped when nearly everything is dead or the dead-letter queue is full.
        """
        if self._burial.full is not None:
            raise ConsumerStopped(_DEAD_QUEUE_FULL) from self._burial.full
        mark = await self._examine(batch)
        letters = list(batch.letters)
        scopes: set[str] = set()
        for outcome in await self._patiently(
            batch.session, lambda: self._store_all(batch.writes, batch.origins, letters)
        ):
            scopes |= outcome.scopes
            self._note(outcome)
        if letters:
            await self._bury(batch, letters)
        await self._tell(batch)
        await self._revise(batch)
        await self._invalidator.committed(scopes)
        await self._subscriber.ack(batch.deliveries[-1])
        if mark is not None:
            await self._patiently(batch.session, lambda: self._store.forget_tries(mark))

    async def _examine(self, batch: Batch) -> str | None:
        """Notes in the database, before a suspect is touched, that it is tried, and buries it after too many tries.

        The broker's own count of deliveries says little: it grows with every outage too.
        """
        suspect = batch.suspect
        if suspect is None:
            return None
        mark = hashlib.sha256(suspect.body).hexdigest()
        tries = await self._patiently(batch.session, lambda: self._store.note_try(mark))
        if tries > limits.MAX_TRIES_ALONE:
            batch.bury_suspect(f"{tries - 1} consumers died while they handled it alone")
        else:
            batch.clear_suspect()
        return mark

    def refresh(self, run_ids: Iterable[str]) -> None:
        """Makes the totals of these runs' stale series anew, beside the flushes."""
        self._refresher.add(run_ids)

    async def close(self) -> None:
        """Waits for what runs in the background."""
        await self._refresher.close()
        await self._burial.close()

    async def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Runs something that blocks, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    def _note(self, outcome: Outcome) -> None:
        self.flushes += 1
        self.points += outcome.points
        self.duplicates += outcome.duplicates
        if outcome.dropped:
            self._note_dropped(outcome.dropped)
        if self._limit is not None:
            self._limit.note(outcome.applied + outcome.duplicates + outcome.dropped, 0)
        self._announcer.changed(outcome.revisions)
        if outcome.stale:
            self.refresh(outcome.stale)

    def _note_dropped(self, count: int) -> None:
        """Counts, and logs at most once a second: a job that goes on may write thousands of times a second."""
        self.dropped += count
        now = asyncio.get_running_loop().time()
        if now - self._dropped_logged >= _DROPPED_LOG_SECONDS:
            self._dropped_logged = now
            _log.warning("writes to purged runs dropped", writes=count, since_start=self.dropped)

    async def _patiently(self, session: int, work: Callable[[], Any]) -> Any:
        """Calls work off the loop, again and again while the database is out of reach and the session lasts."""
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                result = await self.call(work)
            except StoreUnavailable as error:
                if self.healthy:
                    _log.warning("database out of reach; what is to be written waits", error=str(error))
                self.healthy = False
                if session != self._subscriber.session:
                    raise SessionLost from error
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)
            else:
                if not self.healthy:
                    _log.info("database back")
                self.healthy = True
                return result

    async def _tell(self, batch: Batch) -> None:
        """Tells other services which attempts have ended, before the acknowledgement: dying in between, it is done again.

        A broker that takes nothing may do so because its queues are long: they are emptied all the same, and what is to
        be told is kept in the database meanwhile.
        """
        lowest = lowest_ended(batch.writes)
        try:
            await self._announcer.ended(lowest, lambda work: self._patiently(batch.session, work))
        except BrokerUnavailable:
            await self._patiently(batch.session, lambda: self._store.owe_events(lowest))

    async def _revise(self, batch: Batch) -> None:
        """Tells who watches the runs of experiments that were deleted or restored, some of them in each transaction.

        Before the acknowledgement, and for duplicates too: dying in between, it is done again.
        """
        for experiment_id in hidden_or_shown(batch.writes):
            after: RunPosition | None = None
            while True:
                page = partial(self._store.revise_experiment, experiment_id, after)
                revisions, after = await self._patiently(batch.session, page)
                self._announcer.changed(revisions)
                if after is None:
                    break

    async def _mark_dead(self, session: int, dead: Sequence[DeadWrite]) -> None:
        if dead:
            await self._patiently(session, lambda: self._store.mark_dead(dead))

    def _store_all(self, writes: list[Write], origins: list[Origin], letters: list[Letter]) -> list[Outcome]:
        """Stores what can be stored; what cannot, write by write, becomes a letter. Blocks."""
        if not writes:
            return []
        try:
            return [self._store.flush(writes)]
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  # whatever one write provokes must not stop the others
            if len(writes) == 1:
                _log.error("write cannot be stored", scope=writes[0].scope_id, error=str(error))
                letters.append(write_letter(origins[0], f"cannot be stored: {type(error).__name__}: {error}"))
                return []
            middle = len(writes) // 2
            # What an earlier try has stored is a duplicate to the next one.
            return self._store_all(writes[:middle], origins[:middle], letters) + self._store_all(
                writes[middle:], origins[middle:], letters
            )

    async def _bury(self, batch: Batch, letters: list[Letter]) -> None:
        """Sees to it that letters come into the dead-letter queue, and their numbers into the database, before their
        messages are acknowledged."""
        unique = {(letter.delivery.tag, letter.index): letter for letter in letters}
        for delivery in batch.deliveries:
            own = [letter for (tag, _), letter in unique.items() if tag == delivery.tag]
            if own:
                try:
                    await self._burial.bury(delivery, own)
                except QueueFull as error:
                    raise ConsumerStopped(_DEAD_QUEUE_FULL) from error
        self.dead += len(unique)
        for letter in unique.values():
            _log.error(
                "dead letter",
                reason=letter.letter.reason,
                scope=letter.letter.scope_id,
                sequence=letter.letter.sequence,
            )
        if self._limit is not None:
            self._limit.note(0, len(unique))
            if self._limit.reached:
                await self._subscriber.ack(batch.deliveries[-1])
                message = "nearly every write is dead: this consumer may be older than the servers, or broken"
                raise ConsumerStopped(message)


def hidden_or_shown(writes: Iterable[Write]) -> list[str]:
    """The experiments that these writes may have deleted or restored."""
    updates = ((write.scope_id, write.body) for write in writes if isinstance(write.body, UpdateExperiment))
    return sorted({experiment_id for experiment_id, body in updates if "deleted_ms" in body.fields})
