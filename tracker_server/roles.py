"""What a process does: serve, consume, or both; from start to an orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog

from tracker_server import __version__
from tracker_server.bootstrap import Parts
from tracker_server.config import Settings
from tracker_server.consumer.announcer import Announcer
from tracker_server.consumer.consumer import Consumer
from tracker_server.errors import StoreUnavailable
from tracker_server.grpc.address import is_loopback
from tracker_server.grpc.health_server import HealthServer
from tracker_server.grpc.server import GrpcServer
from tracker_server.grpc.servicer import Servicer
from tracker_server.grpc.tls import server_credentials
from tracker_server.heartbeats import Heartbeats
from tracker_server.identity import Identity
from tracker_server.ingest import Ingest
from tracker_server.invalidation import Invalidator
from tracker_server.lease_markers import LeaseMarkers
from tracker_server.model.leases import Lease
from tracker_server.read_through import ReadThrough
from tracker_server.reads.reads import StoreReads
from tracker_server.stop_flags import PolledStopFlags
from tracker_server.watching import Watching

Ready = Callable[[str], None]
"""Called with the address once the server listens."""
_CHECK_SECONDS = 1.0
"""How often a database that is out of reach is asked again."""
_CLOSING_SECONDS = 1.0
"""How long closing may take beyond the grace."""
_log = structlog.get_logger(__name__)


async def up(settings: Settings, ready: Ready) -> None:
    """Server and consumer in one process, until SIGINT or SIGTERM."""
    parts = Parts(settings)
    async with AsyncExitStack() as stack:
        stop = _signals(settings)
        stack.callback(parts.store.close)
        stack.push_async_callback(parts.cache.close)
        await asyncio.to_thread(parts.store.migrate)
        stack.push_async_callback(parts.subscriber.close)
        consumer = _consumer(parts)
        consuming = asyncio.create_task(consumer.run(settings.grace_seconds / 2), name="consumer")
        async with _serving(parts, ready, settings.grace_seconds / 2):
            await _either(stop, consuming)
        consumer.stop()
        await consuming


async def serve(settings: Settings, ready: Ready) -> None:
    """The server, until SIGINT or SIGTERM."""
    parts = Parts(settings)
    async with AsyncExitStack() as stack:
        stop = _signals(settings)
        stack.callback(parts.store.close)
        stack.push_async_callback(parts.cache.close)
        with contextlib.suppress(StoreUnavailable):
            # Writes do not need the database: a server may start without it, but not on a wrong revision.
            await asyncio.to_thread(parts.store.check)
        async with _serving(parts, ready, settings.grace_seconds):
            await stop.wait()


async def consume(settings: Settings) -> None:
    """The consumer, until SIGINT or SIGTERM, or until it stops by itself (ConsumerStopped)."""
    parts = Parts(settings)
    async with AsyncExitStack() as stack:
        stop = _signals(settings)
        stack.callback(parts.store.close)
        stack.push_async_callback(parts.cache.close)
        if not await _database_fit(parts, stop):
            return
        stack.push_async_callback(parts.subscriber.close)
        consumer = _consumer(parts)
        if settings.health_listen:
            health = HealthServer(settings.health_listen, lambda: consumer.healthy)
            await health.start()
            stack.push_async_callback(health.stop)
        consuming = asyncio.create_task(consumer.run(settings.grace_seconds), name="consumer")
        _log.info("consuming", database=_place(settings.database_url), broker=_place(settings.broker_url))
        await _either(stop, consuming)
        consumer.stop()
        await consuming
        _log.info("consumer stopped", points=consumer.flusher.points, flushes=consumer.flusher.flushes)


def _consumer(parts: Parts) -> Consumer:
    settings = parts.settings
    return Consumer(
        parts.subscriber,
        parts.store,
        parts.assignment,
        Invalidator(parts.cache, interval_seconds=parts.bump_interval_seconds),
        Announcer(parts.store, parts.change_notices, parts.events),
        parts.batch_limits,
        interval_seconds=settings.assignment_seconds,
        # In one process a refusal goes straight to its caller, who may well send nothing but bad writes.
        dead_limit=not settings.broker_is_memory,
        compaction=settings.compaction,
        purge_seconds=settings.purge_seconds,
    )


@asynccontextmanager
async def _serving(parts: Parts, ready: Ready, grace_seconds: float) -> AsyncIterator[None]:
    settings = parts.settings
    async with AsyncExitStack() as stack:
        await parts.publisher.start()
        stack.push_async_callback(parts.publisher.close)
        read_through = ReadThrough(parts.cache)
        reads = StoreReads(parts.store, read_through, settings.database_connections)
        stack.callback(reads.close)
        stack.push_async_callback(read_through.close)
        flags = PolledStopFlags(lambda: reads.call(parts.store.runs_to_stop))
        for work in (flags.poll(), reads.watch(_CHECK_SECONDS)):
            stack.push_async_callback(_cancel, asyncio.create_task(_lasting(work)))
        watching = Watching(parts.store, parts.change_feed, most=settings.max_watchers)
        stack.push_async_callback(watching.close)
        await watching.start()
        ingest = Ingest(parts.publisher, settings.partitions, parts.ingest_limits)
        identity = Identity()
        lease = Lease(settings.lease_seconds)
        servicer = Servicer(
            ingest=ingest,
            identity=identity,
            heartbeats=Heartbeats(ingest, identity, flags, lease),
            reads=reads,
            watches=watching,
            version=__version__,
            embedded=settings.embedded,
            lease=lease,
            restore_seconds=round(settings.restore_days * 86_400),
        )
        server = GrpcServer(
            listen=settings.listen,
            share_port=settings.share_port,
            servicer=servicer,
            ingest=ingest,
            reads_answered=lambda: reads.answered,
            api_keys=settings.api_key_list,
            credentials=server_credentials(settings.tls_cert, settings.tls_key),
        )
        if settings.api_key_list and not settings.tls_cert and not is_loopback(settings.listen):
            _log.warning("API keys cross the network in the clear; set TRACKER_TLS_CERT", listen=settings.listen)
        address = await server.start()
        markers = LeaseMarkers(ingest, settings.partitions, lease)
        marking = asyncio.create_task(_lasting(markers.keep()))
        try:
            ready(address)
            yield
        finally:
            await _cancel(marking)
            await server.stop(grace_seconds)


async def _database_fit(parts: Parts, stop: asyncio.Event) -> bool:
    """Waits for the database; False when asked to stop meanwhile. Raises BadMigration or BadSetting."""
    complained = False
    while not stop.is_set():
        try:
            await asyncio.to_thread(parts.store.check)
        except StoreUnavailable as error:
            if not complained:
                _log.warning("waiting for the database", error=str(error))
                complained = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _CHECK_SECONDS)
        else:
            return True
    return False


def _signals(settings: Settings) -> asyncio.Event:
    """Set by SIGINT or SIGTERM, after which the process ends within the grace, whatever hangs."""
    stop = asyncio.Event()

    def ask() -> None:
        if not stop.is_set():
            stop.set()
            _end_in_time(settings.grace_seconds + _CLOSING_SECONDS)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    return stop


def _end_in_time(seconds: float) -> None:
    """Ends the process after so many seconds, unless it has ended by then.

    A thread that waits for a database which stands still cannot be interrupted, and Python waits for its threads. What
    was acknowledged is durable, and what was not is delivered, or sent, again: nothing is lost by not waiting.
    """

    def end() -> None:
        _log.warning("a part stands still; not waiting for it any longer")
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


async def _either(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    """Returns when asked to stop, or when the task has ended, which only an error makes it do."""
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


async def _lasting(work: Coroutine[Any, Any, None]) -> None:
    """Background work that must not end unseen."""
    try:
        await work
    except Exception:
        _log.exception("background work ended")
        raise


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


def _place(url: str) -> str:
    """A URL without its password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
