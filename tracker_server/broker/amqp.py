"""pika's asyncio adapter with its callbacks turned into awaitables. One connection, its channels, their replies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError

from tracker_server.broker.pika_loop import PikaLoop
from tracker_server.config import Settings
from tracker_server.errors import BadSetting
from tracker_server.limits import KIB

STEP_SECONDS: Final = 10.0
"""How long the broker may take for one step: connect and log in, open a channel, declare a queue, ..."""
BLOCKED_SECONDS: Final = 60.0
"""A connection that the broker blocks for so long is given up and made anew, in case an "unblocked" was lost."""
_CLOSE_SECONDS: Final = 1.0
"""How long an orderly close may take before the socket is simply closed."""
_READ_BYTES: Final = 32 * KIB
"""pika reads 4 KiB at a time, which costs three times as much on large messages."""

# pika logs every failed attempt, several times over. Its callers here log each distinct cause once.
logging.getLogger("pika").setLevel(logging.CRITICAL)


class AmqpError(Exception):
    """A step with the broker failed; the message says why."""


class ChannelClosed(AmqpError):
    """A channel, or the connection under it, was closed."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}" if code else text)
        self.code = code
        """AMQP reply code; 0 when the connection was lost without one."""
        self.text = text


def parameters(settings: Settings, purpose: str) -> Any:
    """pika's parameters for the broker. Raises BadSetting when the URL cannot be read."""
    try:
        found = pika.URLParameters(settings.broker_url)
    except (ValueError, TypeError, AttributeError) as error:
        message = f"TRACKER_BROKER_URL: {error}; it must look like amqp://user:password@host:port/vhost"
        raise BadSetting(message) from None
    found.heartbeat = settings.broker_heartbeat_seconds
    found.blocked_connection_timeout = BLOCKED_SECONDS
    found.connection_attempts = 1
    found.socket_timeout = STEP_SECONDS
    found.stack_timeout = STEP_SECONDS
    found.client_properties = {"connection_name": f"tracker {purpose}"}
    return found


class Connection:
    """An open AMQP connection."""

    def __init__(self, on_blocked: Callable[[bool, str], None] | None) -> None:
        loop = asyncio.get_running_loop()
        self.blocked = False
        """Whether the broker takes no messages on this connection (memory or disk alarm)."""
        self._on_blocked = on_blocked
        self._opened: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._ending = False
        self._raw: Any = None

    @classmethod
    async def open(cls, given: Any, on_blocked: Callable[[bool, str], None] | None = None) -> Self:
        """Connects and logs in, within STEP_SECONDS. Raises AmqpError.

        on_blocked is called with (blocked, the broker's reason) whenever the broker blocks or unblocks.
        """
        self = cls(on_blocked)
        self._raw = AsyncioConnection(
            given,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_gone,
            on_close_callback=self._on_gone,
            custom_ioloop=PikaLoop(asyncio.get_running_loop()),
        )
        try:
            async with asyncio.timeout(STEP_SECONDS):
                await self._opened
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError):
                message = f"no answer from {given.host}:{given.port} within {STEP_SECONDS:g} s"
                raise AmqpError(message) from None
            raise
        self._raw.add_on_connection_blocked_callback(self._on_broker_blocks)
        self._raw.add_on_connection_unblocked_callback(self._on_broker_unblocks)
        with contextlib.suppress(AttributeError):
            self._raw._transport._MAX_RECV_BYTES = _READ_BYTES  # noqa: SLF001 - pika has no setting for it
        return self

    @property
    def frame_bytes(self) -> int:
        """Largest frame, as agreed with the broker."""
        return int(self._raw.params.frame_max)

    async def channel(self, on_closed: Callable[[ChannelClosed], None] | None = None) -> Channel:
        """Opens a channel. on_closed is called once, at once, when it is closed for whatever reason. Raises AmqpError."""
        channel = Channel(self._raw, on_closed)
        await channel.open()
        return channel

    def pause_reading(self) -> None:
        """Reads nothing more from the socket: the broker's messages stay with the broker. So do its answers and its
        heartbeats, so it must not last."""
        transport = self._raw._transport  # noqa: SLF001 - pika has no setting for it
        if transport is not None:
            transport._nbio.remove_reader(transport._sock.fileno())  # noqa: SLF001 - the same

    def resume_reading(self) -> None:
        """Reads again."""
        transport = self._raw._transport  # noqa: SLF001 - pika has no setting for it
        if transport is not None and transport._sock is not None:  # noqa: SLF001 - the same
            transport._nbio.set_reader(transport._sock.fileno(), transport._on_socket_readable)  # noqa: SLF001 - the same

    async def close(self) -> None:
        """Closes the socket; in good order if the broker answers quickly. Never raises, may be repeated."""
        if self._raw is None or self._gone.done():
            return
        if self._raw.is_open and not self.blocked and not self._ending:
            with contextlib.suppress(AMQPError):
                self._raw.close()
            try:
                await asyncio.wait({self._gone}, timeout=_CLOSE_SECONDS)
            except asyncio.CancelledError:
                self.abort("closing")
                raise
        if not self._gone.done():
            self.abort("closing")
            await asyncio.wait({self._gone}, timeout=_CLOSE_SECONDS)

    def abort(self, why: str) -> None:
        """Closes the socket without a word to the broker. Returns at once; channels hear of it in a moment."""
        raw = self._raw
        if self._ending or self._gone.done():
            return
        self._ending = True
        with contextlib.suppress(AMQPError):
            if self._opened.done():
                raw._terminate_stream(AMQPError(why))  # noqa: SLF001 - pika's own way for a dead peer; nothing public
            elif not raw.is_closing:
                raw.close()

    def _on_open(self, _raw: Any) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _on_gone(self, _raw: Any, error: BaseException) -> None:
        if not self._opened.done():
            self._opened.set_exception(AmqpError(describe(error)))
        if not self._gone.done():
            self._gone.set_result(None)

    def _on_broker_blocks(self, _raw: Any, frame: Any) -> None:
        self._set_blocked(True, str(frame.method.reason))

    def _on_broker_unblocks(self, _raw: Any, _frame: Any) -> None:
        self._set_blocked(False, "")

    def _set_blocked(self, blocked: bool, reason: str) -> None:
        self.blocked = blocked
        if self._on_blocked is not None:
            self._on_blocked(blocked, reason)


class Channel:
    """A channel. Every method that awaits raises AmqpError: closed, or no answer within STEP_SECONDS."""

    def __init__(self, connection: Any, on_closed: Callable[[ChannelClosed], None] | None) -> None:
        self._connection = connection
        self._on_closed = on_closed
        self._waiting: set[asyncio.Future[Any]] = set()
        self.closed: ChannelClosed | None = None
        """Why it was closed; None while it is usable."""
        self.raw: Any = None
        """pika's channel."""

    async def open(self) -> None:
        """Opens it; once."""

        def start(done: Callable[[Any], None]) -> None:
            self.raw = self._connection.channel(on_open_callback=done)
            self.raw.add_on_close_callback(self._on_close)

        await self._call("channel.open", start)

    async def declare(self, queue: str, arguments: Mapping[str, Any]) -> None:
        """Declares a durable queue."""
        await self._call(
            f"queue.declare {queue}",
            lambda done: self.raw.queue_declare(queue, durable=True, arguments=dict(arguments), callback=done),
        )

    async def count(self, queue: str) -> int:
        """How many messages wait in a queue. Raises ChannelClosed with code 404 when there is no such queue."""
        answer = await self._call(
            f"queue.declare {queue}", lambda done: self.raw.queue_declare(queue, passive=True, callback=done)
        )
        return int(answer.method.message_count)

    async def declare_exchange(self, name: str, kind: str, *, durable: bool, passive: bool = False) -> None:
        """Declares an exchange. passive: only looks; raises ChannelClosed with code 404 when there is none."""
        await self._call(
            f"exchange.declare {name}",
            lambda done: self.raw.exchange_declare(name, kind, durable=durable, passive=passive, callback=done),
        )

    async def listen(
        self, exchange: str, arguments: Mapping[str, Any], on_message: Callable[[Any, Any, Any, bytes], None]
    ) -> None:
        """Consumes what an exchange passes on from now on, through a queue that is gone with this channel's connection.
        Nothing is to be acknowledged."""
        declared = await self._call(
            "queue.declare",
            lambda done: self.raw.queue_declare(
                "", exclusive=True, auto_delete=True, arguments=dict(arguments), callback=done
            ),
        )
        queue = str(declared.method.queue)
        await self._call("queue.bind", lambda done: self.raw.queue_bind(queue, exchange, callback=done))
        await self._call(
            "basic.consume",
            lambda done: self.raw.basic_consume(queue, on_message, auto_ack=True, exclusive=True, callback=done),
        )

    async def confirm_select(self, on_confirm: Callable[[Any], None]) -> None:
        """Asks for confirms; each is given to on_confirm."""
        await self._call("confirm.select", lambda done: self.raw.confirm_delivery(on_confirm, callback=done))

    async def consume(
        self, queue: str, tag: str, prefetch: int, on_message: Callable[[Any, Any, Any, bytes], None]
    ) -> None:
        """Begins to consume under a tag, with a limit of unacknowledged messages of its own."""
        await self._call("basic.qos", lambda done: self.raw.basic_qos(prefetch_count=prefetch, callback=done))
        await self._call(
            f"basic.consume {queue}",
            lambda done: self.raw.basic_consume(queue, on_message, consumer_tag=tag, callback=done),
        )

    async def cancel(self, tag: str) -> None:
        """Ends a consumer. What was under way to it is still given to it before this returns."""

        def start(done: Callable[[Any], None]) -> None:
            self.raw.basic_cancel(tag, callback=done)
            # Else pika would send back what still arrives, and each time counts as a failed delivery.
            self.raw._cancelled.discard(tag)  # noqa: SLF001 - pika has no setting for it

        await self._call("basic.cancel", start)

    async def close(self) -> None:
        """Closes it, without waiting for the broker's answer."""
        if self.closed is None:
            with contextlib.suppress(AMQPError):
                self.raw.close()

    async def leave(self) -> None:
        """As close, but what was delivered and not acknowledged goes back in the order in which it came."""
        # pika would cancel the consumers first, and the broker returns what is under way to a cancelled one at once.
        self.raw._consumers.clear()  # noqa: SLF001 - pika has no setting for it
        await self.close()

    def ack(self, tag: int, *, multiple: bool = True) -> None:
        """Acknowledges this delivery and, with multiple, all before it on this channel."""
        with contextlib.suppress(AMQPError):
            self.raw.basic_ack(tag, multiple=multiple)

    def write(self, data: bytes) -> None:
        """Sends ready-made frames of this channel. Nothing happens when it is closed: on_closed has said so."""
        if self.closed is None and data:
            self.raw.connection._output_marshaled_frames([data])  # noqa: SLF001 - pika marshals one message at a time

    async def _call(self, step: str, start: Callable[[Callable[[Any], None]], Any]) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(reply: Any) -> None:
            if not answer.done():
                answer.set_result(reply)

        if self.closed is not None:
            raise self.closed
        self._waiting.add(answer)
        try:
            start(done)
            async with asyncio.timeout(STEP_SECONDS):
                return await answer
        except AMQPError as error:
            message = f"{step}: {describe(error)}"
            raise AmqpError(message) from None
        except TimeoutError:
            message = f"{step}: no answer within {STEP_SECONDS:g} s"
            raise AmqpError(message) from None
        finally:
            self._waiting.discard(answer)

    def _on_close(self, _raw: Any, error: BaseException) -> None:
        code = getattr(error, "reply_code", 0)
        self.closed = ChannelClosed(code, str(getattr(error, "reply_text", "")) or describe(error))
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(ChannelClosed(code, self.closed.text))
        if self._on_closed is not None:
            self._on_closed(self.closed)


def describe(error: BaseException) -> str:
    """The innermost cause in words: pika wraps a refused connection four times."""
    while True:
        held = [*error.args, *getattr(error, "exceptions", ()), getattr(error, "exception", None)]
        inner = [found for found in held if isinstance(found, BaseException)]
        if not inner:
            break
        error = inner[-1]
    text = str(error)
    return text if text and not isinstance(error, AMQPError) else f"{type(error).__name__}: {text}".rstrip(": ")
