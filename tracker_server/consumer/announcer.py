"""After a commit: tells servers that runs have changed, and other services which attempts have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog

from tracker_server.errors import BrokerUnavailable, StoreUnavailable
from tracker_server.events import run_completed
from tracker_server.model.records import EndedAttempt
from tracker_server.model.writes import CompleteRun, StartRun, Write
from tracker_server.notices import CoalescedNotices
from tracker_server.ports import ChangeNotices, Events, Revisions
from tracker_server.store.store import Store

PAY_SECONDS: Final = 5.0
"""How often it looks for events that are owed."""
_PAID: Final = 500
"""At a time."""
_log = structlog.get_logger(__name__)


class Announcer:
    """Of one consumer."""

    def __init__(
        self, store: Store, notices: ChangeNotices, events: Events | None, *, pay_seconds: float = PAY_SECONDS
    ) -> None:
        """events: None where nobody but the server of this process can be told anything."""
        self._store = store
        self._notices = CoalescedNotices(notices)
        self._events = events
        self._pay_seconds = pay_seconds
        self._paying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to connect."""
        if self._events is not None:
            await self._events.start()
            self._paying = asyncio.create_task(self._keep_paying(self._events), name="owed events")

    def changed(self, revisions: Revisions) -> None:
        """Runs have changed. Neither waits nor raises."""
        self._notices.send(revisions)

    async def ended(
        self, lowest: Mapping[str, int], read: Callable[[Callable[[], list[EndedAttempt]]], Awaitable[Any]]
    ) -> None:
        """Tells of the ended attempts of these runs, from the given number on, all at once.

        read: reads from the database, off the event loop. Raises BrokerUnavailable.
        """
        if self._events is None or not lowest:
            return
        ended: Sequence[EndedAttempt] = await read(lambda: self._store.ended_attempts(lowest))
        if ended:
            await self._events.publish([run_completed(one) for one in ended])

    async def close(self) -> None:
        """Passes on the last notices. What is owed stays owed."""
        self._notices.close()
        if self._paying is not None:
            self._paying.cancel()
            await asyncio.wait({self._paying})
        if self._events is not None:
            await self._events.close()

    async def _keep_paying(self, events: Events) -> None:
        """Publishes what is owed, by whichever consumer it was left: twice, when two find it at the same time."""
        while True:
            await asyncio.sleep(self._pay_seconds)
            try:
                while await self._pay(events):
                    pass
            except (BrokerUnavailable, StoreUnavailable):
                continue
            except Exception:  # noqa: BLE001  # background work: logged, and tried again
                _log.exception("owed events could not be published")

    async def _pay(self, events: Events) -> bool:
        """Some of it; whether there was any."""
        ids, lowest = await asyncio.to_thread(self._store.owed_events, _PAID)
        if not ids:
            return False
        ended = await asyncio.to_thread(self._store.ended_attempts, lowest)
        await events.publish([run_completed(one) for one in ended])
        await asyncio.to_thread(self._store.forgive_events, ids)
        _log.info("owed events published", events=len(ended))
        return True


def lowest_ended(writes: Iterable[Write]) -> Mapping[str, int]:
    """The runs of which these writes, which were stored, may have ended attempts, and the lowest number of those.

    Duplicates are told again, since the process that stored them may have died before it told of them. A start may come
    after the end, and name the experiment only then: the end is told again, under that one.
    """
    lowest: dict[str, int] = {}
    for write in writes:
        body = write.body
        if isinstance(body, CompleteRun) or (isinstance(body, StartRun) and body.experiment_id):
            lowest[write.scope_id] = min(write.attempt, lowest.get(write.scope_id, write.attempt))
    return lowest
