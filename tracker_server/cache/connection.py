"""One connection to Redis that one task at a time drives: send some commands, wait for as many replies.

redis-py makes the connection (URL, TLS, authentication, database). Then its transport is taken over, since a round trip
through redis-py costs twice as much CPU, its time-outs hold per step and not for the whole, and a command of its
clients that is cancelled half-way has handed replies to the wrong caller before.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis.asyncio
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tracker_server.cache.layout import SERVER_BYTES
from tracker_server.cache.wire import Command, Parser, Reply, pack

_RUN_ID: Final = re.compile(rb"^run_id:(\w+)", re.MULTILINE)
_TOTAL_FACTOR: Final = 4
"""A whole exchange may take so many times the time-out while bytes come in: a server that drips is dead, too."""


class RedisConnection:
    """Connects when needed. Not for concurrent use."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        """Raises ValueError for a URL that is none. The time-out is for connecting, and for silence."""
        options: dict[str, Any] = {**parse_url(url)}
        self._class: type[AbstractConnection] = options.pop("connection_class", redis.asyncio.Connection)
        self._options = {
            **options,
            "protocol": 2,
            "decode_responses": False,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "retry_on_error": [],
            "health_check_interval": 0,
            "socket_timeout": None,  # one time-out around the whole, here
            "socket_connect_timeout": timeout_seconds,
        }
        self._timeout = timeout_seconds
        self._session: _Session | None = None

    async def exchange(self, build: Callable[[], Sequence[Command]]) -> tuple[list[Reply], bytes]:
        """The replies (an error that answers one command stands in its place) and the identity of the server.

        The identity is 16 bytes that differ between two servers, and between two lives of one.
        When a connection is found to be closed, the commands are built anew and sent on a new one, once. Built anew,
        since the first may have run: a generation sent twice could overwrite a later one and make its own values valid again.
        Raises redis.exceptions.ConnectionError (with its kinds: authentication, loading) and TimeoutError.
        """
        if self._session is not None:
            # The server may have closed it while it was idle, or have been started anew: no reason for a miss.
            with contextlib.suppress(RedisConnectionError):
                return await self._exchange(self._session, build())
        self._session = await self._connect()
        return await self._exchange(self._session, build())

    async def close(self) -> None:
        """Gives the connection up, whatever state it is in. Waits for nobody."""
        session, self._session = self._session, None
        if session is not None:
            await _abandon(session.connection)

    async def _connect(self) -> _Session:
        connection = self._class(**self._options)
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it without types
                return _Session(connection, await _identity(connection))
        except BaseException:
            await _abandon(connection)
            raise

    async def _exchange(self, session: _Session, commands: Sequence[Command]) -> tuple[list[Reply], bytes]:
        try:
            return await session.exchange(commands, self._timeout), session.server
        except BaseException:
            await self.close()  # the replies that may still come belong to these commands: never used again
            raise


class _Session(asyncio.Protocol):
    """A connection that is made and authenticated; the transport's protocol from then on."""

    def __init__(self, connection: AbstractConnection, server: bytes) -> None:
        self.connection = connection
        self.server = server
        self._transport = _transport(connection)
        self._loop = asyncio.get_running_loop()
        self._parser = Parser()
        self._replies: list[Reply] = []
        self._wanted = 0
        self._done: asyncio.Future[None] | None = None
        self._timeout = self._begun = self._heard = 0.0
        self._watcher: asyncio.TimerHandle | None = None
        self._transport.set_protocol(self)
        # An end that came just before was told to redis-py's protocol, which keeps the transport open: ask again.
        self._transport.pause_reading()
        self._transport.resume_reading()

    async def exchange(self, commands: Sequence[Command], timeout: float) -> list[Reply]:
        """One reply for each command. Raises redis.exceptions.ConnectionError and TimeoutError."""
        if self._transport.is_closing():
            raise RedisConnectionError(_CLOSED)
        self._timeout = timeout
        self._begun = self._heard = self._loop.time()
        self._replies, self._wanted = [], len(commands)
        self._done = done = self._loop.create_future()
        self._watch_until(self._begun + timeout)
        try:
            self._transport.write(pack(commands))
            await done
            return self._replies
        finally:
            self._done = None
            if self._watcher is not None:
                self._watcher.cancel()

    def data_received(self, data: bytes) -> None:
        """Counts replies."""
        self._heard = self._loop.time()
        try:
            new = self._parser.feed(data)
            for reply in new:
                if isinstance(reply, RedisConnectionError):  # loading, or not let in: so it is for all commands
                    raise reply
        except RedisConnectionError as error:
            self._fail(error)
            return
        self._replies += new
        if self._done is None or len(self._replies) > self._wanted:
            self._fail(RedisConnectionError("the server answers what was not asked"))
        elif len(self._replies) == self._wanted and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails who waits."""
        self._fail(RedisConnectionError(f"{_CLOSED}: {exc}" if exc else _CLOSED))

    def _watch_until(self, time: float) -> None:
        self._watcher = self._loop.call_at(time, self._watch)

    def _watch(self) -> None:
        until = min(self._heard + self._timeout, self._begun + _TOTAL_FACTOR * self._timeout)
        if self._loop.time() < until:
            self._watch_until(until)
        else:
            self._fail(TimeoutError("the server does not answer"))

    def _fail(self, error: Exception) -> None:
        self._transport.abort()
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


_CLOSED: Final = "the server has closed the connection"


async def _identity(connection: AbstractConnection) -> bytes:
    await connection.send_command("INFO", "server", check_health=False)
    try:
        reply = await connection.read_response()
    except ResponseError:  # not allowed to this user, or unknown to a proxy
        return bytes(SERVER_BYTES)
    found = _RUN_ID.search(reply) if isinstance(reply, bytes) else None
    return hashlib.blake2b(found[1], digest_size=SERVER_BYTES).digest() if found else bytes(SERVER_BYTES)


def _transport(connection: AbstractConnection) -> asyncio.Transport:
    writer = getattr(connection, "_writer", None)  # redis-py has no public way to it
    transport = writer.transport if isinstance(writer, asyncio.StreamWriter) else None
    if not isinstance(transport, asyncio.Transport):
        raise RedisConnectionError(_CLOSED)
    return transport


async def _abandon(connection: AbstractConnection) -> None:
    # redis-py only closes it, which waits for ever when what is still to be sent is read by nobody.
    with contextlib.suppress(RedisConnectionError):
        _transport(connection).abort()
    with contextlib.suppress(Exception):  # nothing is left to be done about it
        await connection.disconnect(nowait=True)
