"""Messages under way on one channel, from their publishing to the broker's confirm."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Self

import pika
from pika.exceptions import AMQPError

from tracker_server.broker.amqp import AmqpError, Channel, ChannelClosed, Connection, describe
from tracker_server.broker.frames import content_frames, publish_frame
from tracker_server.errors import BrokerUnavailable, QueueFull, TrackerError
from tracker_server.limits import KIB

_PROBE_KEY: Final = "tracker.probe"
"""No queue has this name: the broker confirms what is sent there and throws it away."""
_REFUSED: Final = "the broker refused the message: its queue is at its length limit, or is just being made or moved"
_WRITE_BYTES: Final = 64 * KIB
"""Small messages are handed to the socket together, once a turn of the event loop or at so many bytes."""
_TICK_SECONDS: Final = 0.25
"""How often it looks for messages whose confirm is overdue."""
_IDLE_TICKS: Final = 4
"""After so many ticks without a message it sends a probe."""


class ConfirmChannel:
    """A channel in confirm mode. Not thread-safe; costs neither a task nor a timer a message."""

    def __init__(
        self,
        connection: Connection,
        confirm_seconds: float,
        on_unroutable: Callable[[str], None],
        on_ended: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._confirm_seconds = confirm_seconds
        self._on_unroutable = on_unroutable
        self._on_ended = on_ended
        self._channel: Channel
        self._number = 0
        self._id_prefix = f"{secrets.token_hex(8)}-"
        self._publish_frames: dict[str, bytes] = {}
        self._tag = 0
        self._lowest = 1
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._tags_by_id: dict[str, int] = {}
        self._marks: deque[tuple[float, int]] = deque()
        self._confirmed_at = self._loop.time()
        self._pieces: list[bytes | memoryview] = []
        self._pieces_bytes = 0
        self._flush_due = False
        self._idle_ticks = 0
        self._tick: asyncio.TimerHandle | None = None
        self.ended: AmqpError | None = None
        """Why nothing can be sent any more; None while it can."""

    @classmethod
    async def open(
        cls,
        connection: Connection,
        confirm_seconds: float,
        on_unroutable: Callable[[str], None],
        on_ended: Callable[[], None],
    ) -> Self:
        """Opens it. Raises AmqpError.

        on_unroutable is called with the name of a queue that turns out to be missing, on_ended once, at once, when the
        channel is lost (not after `end`).
        """
        self = cls(connection, confirm_seconds, on_unroutable, on_ended)
        self._channel = await connection.channel(self._on_closed)
        await self._channel.confirm_select(self._on_confirm)
        self._channel.raw.add_on_return_callback(self._on_return)
        self._number = int(self._channel.raw.channel_number)
        self._tick = self._loop.call_later(_TICK_SECONDS, self._look)
        return self

    def probe(self) -> asyncio.Future[None]:
        """Sends a message to nowhere; done when it is confirmed.

        A broker under an alarm tells a connection of it only when that publishes. So one is sent before the first
        message, and from time to time while there is none; it also shows that the broker still confirms.
        """
        return self._send_slowly("", _PROBE_KEY, b"", pika.BasicProperties(), mandatory=False)

    def send(self, queue: str, body: bytes) -> asyncio.Future[None]:
        """Publishes, persistent and mandatory. The future ends with the confirm, or with BrokerUnavailable or QueueFull.

        Raises BrokerUnavailable. The body must not change any more.
        """
        if self.ended is not None:
            raise BrokerUnavailable(str(self.ended))
        method = self._publish_frames.get(queue)
        if method is None:
            method = self._publish_frames[queue] = publish_frame(self._number, queue)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        self._tag = tag = self._tag + 1
        future = self._waiting[tag] = self._loop.create_future()
        pieces = self._pieces
        pieces.append(method)
        message_id = f"{self._id_prefix}{tag:x}".encode()
        for frame in content_frames(self._number, message_id, body, self._connection.frame_bytes):
            pieces.extend(frame)
            self._pieces_bytes += sum(map(len, frame))
            if self._pieces_bytes >= _WRITE_BYTES:
                self._write()
        return future

    def send_with(self, queue: str, body: bytes, properties: Any) -> asyncio.Future[None]:
        """As send, with pika's properties, which must hold a message id of their own and say persistent."""
        return self._send_slowly("", queue, body, properties, mandatory=True)

    def publish(self, exchange: str, key: str, body: bytes, properties: Any) -> asyncio.Future[None]:
        """Publishes to an exchange, to whoever is bound to it: to be routed nowhere is no error. The future is as that of
        send. Raises BrokerUnavailable."""
        return self._send_slowly(exchange, key, body, properties, mandatory=False)

    def end(self, cause: AmqpError) -> None:
        """Every message under way fails with BrokerUnavailable. May be repeated."""
        if self._tick is not None:
            self._tick.cancel()
        if self.ended is None:
            self.ended = cause
        waiting, self._waiting = self._waiting, {}
        self._tags_by_id.clear()
        self._pieces.clear()
        for future in waiting.values():
            _fail(future, BrokerUnavailable(f"not confirmed: {cause}"))

    def _send_slowly(
        self, exchange: str, key: str, body: bytes, properties: Any, *, mandatory: bool
    ) -> asyncio.Future[None]:
        if self.ended is not None:
            raise BrokerUnavailable(str(self.ended))
        self._write()
        try:
            self._channel.raw.basic_publish(exchange, key, body, properties, mandatory)
        except AMQPError as error:
            raise BrokerUnavailable(describe(error)) from None
        self._tag += 1
        future = self._waiting[self._tag] = self._loop.create_future()
        message_id = properties.message_id
        if message_id:
            self._tags_by_id[message_id] = self._tag
            future.add_done_callback(lambda _: self._tags_by_id.pop(message_id, None))
        return future

    def _flush(self) -> None:
        self._flush_due = False
        self._write()

    def _write(self) -> None:
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._pieces_bytes = 0
            self._channel.write(data)

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        tag: int = method.delivery_tag
        refused = method.NAME == "Basic.Nack"
        waiting = self._waiting
        for confirmed in range(self._lowest if method.multiple else tag, tag + 1):
            future = waiting.pop(confirmed, None)
            # Done already: its waiter was cancelled.
            if future is not None and not future.done():
                if refused:
                    _fail(future, QueueFull(_REFUSED))
                else:
                    future.set_result(None)
        while self._lowest <= self._tag and self._lowest not in waiting:
            self._lowest += 1
        self._confirmed_at = self._loop.time()

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        # Comes before the confirm of the same message, which then finds nobody waiting.
        queue = str(method.routing_key)
        message_id = str(properties.message_id)
        tag = self._tags_by_id.get(message_id)
        if tag is None and message_id.startswith(self._id_prefix):
            tag = int(message_id.removeprefix(self._id_prefix), 16)
        future = self._waiting.pop(tag, None) if tag is not None else None
        if future is not None:
            _fail(future, BrokerUnavailable("unroutable: queue missing", queue=queue))
        self._on_unroutable(queue)

    def _look(self) -> None:
        now = self._loop.time()
        self._tick = self._loop.call_later(_TICK_SECONDS, self._look)
        latest = now - self._confirm_seconds
        overdue = 0
        while self._marks and self._marks[0][0] <= latest:
            overdue = self._marks.popleft()[1]
        self._idle_ticks = self._idle_ticks + 1 if self._marks and self._marks[-1][1] == self._tag else 0
        self._marks.append((now, self._tag))
        late = [self._waiting.pop(tag) for tag in range(self._lowest, overdue + 1) if tag in self._waiting]
        for future in late:
            _fail(future, BrokerUnavailable(f"not confirmed within {self._confirm_seconds:g} s"))
        if late and self._confirmed_at <= latest and not self._connection.blocked:
            # Not one confirm in all that time: the connection is dead, whatever TCP thinks of it.
            self._lose(AmqpError(f"nothing was confirmed for {self._confirm_seconds:g} s"))
        elif self._idle_ticks >= _IDLE_TICKS and not self._connection.blocked:
            with contextlib.suppress(BrokerUnavailable):
                self.probe()

    def _on_closed(self, cause: ChannelClosed) -> None:
        self._lose(cause)

    def _lose(self, cause: AmqpError) -> None:
        if self.ended is None:
            self.end(cause)
            self._on_ended()


def _fail(future: asyncio.Future[None], error: TrackerError) -> None:
    if not future.done():
        future.set_exception(error)
        # Marks it as seen: a waiter that is cancelled in this very moment is no reason for asyncio to complain.
        future.exception()
