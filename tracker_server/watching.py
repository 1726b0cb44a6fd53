"""WatchRuns: a stream of runs as they change. The database is the truth; notices only wake.

A watcher holds a cursor and nothing else. It reads a page, sends it, and reads on only when it was taken: who is slow
misses states in between, and never the last one, and nothing piles up for him here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server import limits
from tracker_server.errors import InvalidRequest, StoreUnavailable, Violation
from tracker_server.model.records import RunChange
from tracker_server.model.watching import ChangePosition, Cursor, RunPosition, WatchQuery
from tracker_server.ports import ChangeFeed
from tracker_server.reads import answers
from tracker_server.store.change_reader import PAGE_RUNS, Progress
from tracker_server.store.store import Store, now_ms
from tracker_server.tokens import read_watch_token, watch_hash, watch_token
from tracker_server.watchers import Watcher, Watchers

_T = TypeVar("_T")
Send = Callable[[public.WatchRunsResponse], Awaitable[None]]
"""Sends a message to the caller; returns when it is on its way."""
_FIRST_WAIT_SECONDS: Final = 0.25
_LONGEST_WAIT_SECONDS: Final = 5.0


class Watching:
    """Serves the watchers of one server."""

    def __init__(
        self, store: Store, feed: ChangeFeed, *, most: int, look_seconds: float = limits.WATCH_LOOK_SECONDS
    ) -> None:
        """most: watchers at the same time; look_seconds: how often to look for changes without having been told."""
        self._store = store
        self._executor = ThreadPoolExecutor(limits.WATCH_READS, thread_name_prefix="watch")
        self.watchers = Watchers(feed, lambda: self._call(store.revisions), most=most, look_seconds=look_seconds)

    async def start(self) -> None:
        """Begins to listen for changes."""
        await self.watchers.start()

    async def close(self) -> None:
        """Waits for the reads under way."""
        await self.watchers.close()
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def watch(self, request: public.WatchRunsRequest, send: Send) -> None:
        """Sends what the request asks for, until cancelled.

        Raises TooManyWatchers; StoreUnavailable when the first read fails (later ones are tried again, for ever); and
        InvalidRequest for a revision of another database, or of one that is ahead of it.
        """
        watcher = self.watchers.add()
        try:
            await _Stream(self._store, self._call, watcher, request, send).run()
        finally:
            self.watchers.remove(watcher)

    async def _call(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


@dataclass(slots=True)
class _Page:
    """What a read gave."""

    answer: public.WatchRunsResponse
    progress: Progress
    read_at: float
    """When the read began, by the monotonic clock."""


class _Stream:
    """One watcher, from its first read on."""

    def __init__(
        self,
        store: Store,
        call: Callable[[Callable[[], _Page]], Awaitable[_Page]],
        watcher: Watcher,
        request: public.WatchRunsRequest,
        send: Send,
    ) -> None:
        self._store = store
        self._call = call
        self._watcher = watcher
        self._request = request
        self._query = _query(request)
        self._hash = watch_hash(request)
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._database_id = ""
        self._as_of: Timestamp | None = None

    async def run(self) -> None:
        """Reads and sends, until cancelled."""
        page = await self._call(self._first_page)
        self._watcher.seen = page.progress.cursor.revisions
        await self._send(page.answer)
        while True:
            catching_up, due = page.progress.more, False
            if not catching_up:
                due = not (page.progress.behind or await self._watcher.changed(limits.WATCH_ALIVE_SECONDS))
                await asyncio.sleep(max(0.0, page.read_at + limits.WATCH_PAUSE_SECONDS - time.monotonic()))
            self._watcher.begin()
            page = await self._patiently(page.progress.cursor)
            self._watcher.seen = page.progress.cursor.revisions
            if page.answer.updates or due or (catching_up and not page.progress.more):
                await self._send(page.answer)

    async def _patiently(self, cursor: Cursor) -> _Page:
        """Reads a page; while the database is out of reach, again and again, the stream staying alive."""
        wait = _FIRST_WAIT_SECONDS
        sent_at = self._loop.time()
        while True:
            try:
                return await self._call(lambda: self._read(cursor))
            except StoreUnavailable:
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
                if self._loop.time() - sent_at >= limits.WATCH_ALIVE_SECONDS:
                    sent_at = self._loop.time()
                    await self._send(public.WatchRunsResponse(revision=self._token(cursor), as_of=self._as_of))

    # ------------------------------------------------------------ on a thread of the pool

    def _first_page(self) -> _Page:
        self._database_id = self._store.database_id()
        if self._request.revision:
            return self._read(self._given_cursor())
        now = self._store.revisions()
        if self._request.snapshot:
            return self._read(Cursor(now, snapshot=_NEWEST))
        answer = public.WatchRunsResponse(revision=self._token(Cursor(now)), as_of=answers.timestamp(now_ms()))
        return _Page(answer, Progress(Cursor(now), more=False), time.monotonic())

    def _read(self, cursor: Cursor) -> _Page:
        read_at, size = time.monotonic(), 0
        answer = public.WatchRunsResponse(as_of=answers.timestamp(now_ms()))

        def add(change: RunChange) -> bool:
            nonlocal size
            update = answers.update_message(change)
            answer.updates.append(update)
            size += update.ByteSize()
            return size < limits.MAX_WATCH_BYTES and len(answer.updates) < PAGE_RUNS

        progress = self._store.read_watched(self._query, cursor, add)
        answer.revision = self._token(progress.cursor)
        answer.catching_up = progress.more
        self._as_of = answer.as_of
        return _Page(answer, progress, read_at)

    def _token(self, cursor: Cursor) -> str:
        token = internal.WatchToken(database_id=self._database_id, request_hash=self._hash, revisions=cursor.revisions)
        if cursor.position is not None:
            token.position.CopyFrom(internal.WatchPosition(**cursor.position._asdict()))
        if cursor.snapshot is not None:
            token.snapshot.CopyFrom(internal.SnapshotPosition(**cursor.snapshot._asdict()))
        return watch_token(token)

    def _given_cursor(self) -> Cursor:
        token = read_watch_token(self._request)
        if token.database_id != self._database_id or len(token.revisions) != self._store.partitions:
            raise InvalidRequest([Violation("revision", "is of another database; begin anew, with a snapshot")])
        position, snapshot = token.position, token.snapshot
        return Cursor(
            tuple(token.revisions),
            ChangePosition(position.partition, position.revision, position.run_id)
            if token.HasField("position")
            else None,
            RunPosition(snapshot.created_ms, snapshot.run_id) if token.HasField("snapshot") else None,
        )


_NEWEST: Final = RunPosition(2**63 - 1, "")


def _query(request: public.WatchRunsRequest) -> WatchQuery:
    asked = request.max_metrics or limits.DEFAULT_WATCHED_METRICS
    return WatchQuery(
        tuple(request.run_ids),
        request.experiment_id,
        tuple(request.metrics),
        max(0, min(asked, limits.MAX_WATCHED_METRICS)),
    )
