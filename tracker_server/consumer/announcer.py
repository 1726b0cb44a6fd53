"""After a commit: tells servers that runs have changed, and other services which attempts have ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from tracker_server.events import run_completed
from tracker_server.model.records import EndedAttempt
from tracker_server.model.writes import CompleteRun, StartRun, Write
from tracker_server.notices import CoalescedNotices
from tracker_server.ports import ChangeNotices, Events, Revisions
from tracker_server.store.store import Store


class Announcer:
    """Of one consumer."""

    def __init__(self, store: Store, notices: ChangeNotices, events: Events | None) -> None:
        """events: None where nobody but the server of this process can be told anything."""
        self._store = store
        self._notices = CoalescedNotices(notices)
        self._events = events

    async def start(self) -> None:
        """Begins to connect."""
        if self._events is not None:
            await self._events.start()

    def changed(self, revisions: Revisions) -> None:
        """Runs have changed. Neither waits nor raises."""
        self._notices.send(revisions)

    async def ended(
        self, writes: Iterable[Write], read: Callable[[Callable[[], list[EndedAttempt]]], Awaitable[Any]]
    ) -> None:
        """Tells of the attempts that these writes, which were stored, ended, all at once; duplicates are told again,
        since the process that stored them may have died before it told of them.

        A start may come after the end, and name the experiment only then: the end is told again, under that one.
        read: reads from the database, off the event loop. Raises BrokerUnavailable.
        """
        lowest: dict[str, int] = {}
        for write in writes:
            body = write.body
            if isinstance(body, CompleteRun) or (isinstance(body, StartRun) and body.experiment_id):
                lowest[write.scope_id] = min(write.attempt, lowest.get(write.scope_id, write.attempt))
        if self._events is None or not lowest:
            return
        ended: Sequence[EndedAttempt] = await read(lambda: self._store.ended_attempts(lowest))
        if not ended:
            return
        await self._events.publish([run_completed(one) for one in ended])

    async def close(self) -> None:
        """Passes on the last notices."""
        self._notices.close()
        if self._events is not None:
            await self._events.close()
