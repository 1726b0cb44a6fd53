"""Looking into the dead-letter queue, and putting letters back. Blocking: for the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from tracker_server import limits
from tracker_server.broker.amqp import AmqpError, Channel, ChannelClosed, Connection, parameters
from tracker_server.broker.confirms import ConfirmChannel
from tracker_server.broker.letter_text import letter_text
from tracker_server.broker.letters import DeadLetterInfo, read_letter
from tracker_server.broker.topology import DEAD_QUEUE, ingest_queue
from tracker_server.config import Settings
from tracker_server.errors import BrokerUnavailable, QueueFull

MAX_SEEN: Final = 65_535
"""So many of the oldest letters are looked at, at most: the largest prefetch that AMQP knows."""
_NOT_FOUND: Final = 404
_QUIET_SECONDS: Final = 2.0
"""When no letter comes for so long, others hold the rest."""
_REPLAY_WINDOW: Final = 500
"""Letters held in memory while all are replayed. So many refused ones end it: the queues are full."""


@dataclass(frozen=True, slots=True)
class ReplayCounts:
    """What became of the letters that were to be replayed."""

    replayed: int
    """Back on their ingest queue, confirmed, and no longer here."""
    refused: int
    """Still here: their queue is full or missing, or nobody knows where they belong."""
    missing: int
    """Asked for by id, and not found."""


class DeadLetters:
    """The dead-letter queue. Every method makes a connection of its own, and may raise BrokerUnavailable.

    None may be called on an event loop. While one runs, the letters that it looks at are hidden from others.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises BadSetting when the broker's URL cannot be read."""
        self._parameters = parameters(settings, "dead letters")

    def list(self, limit: int) -> Sequence[DeadLetterInfo]:
        """The oldest letters, at most so many. They stay where they are."""
        return asyncio.run(self._list(limit))

    def show(self, letter_id: str) -> str | None:
        """A letter as text: its headers, and its writes as far as they can be decoded. None: not found."""
        return asyncio.run(self._show(letter_id))

    def replay(self, ids: Collection[str] | None = None) -> ReplayCounts:
        """Puts letters back on their ingest queue, and takes each from here once that is confirmed. None: all.

        One that dies again comes here again, under a new id. Cut off in between, a letter may be both here and there,
        which does no harm: what is stored already is not stored again.
        """
        return asyncio.run(self._replay(None if ids is None else frozenset(ids)))

    def purge(self, ids: Collection[str]) -> int:
        """Throws letters away for good. Returns how many were found."""
        return asyncio.run(self._purge(frozenset(ids)))

    async def _list(self, limit: int) -> Sequence[DeadLetterInfo]:
        async with self._letters(lambda _: False) as (_, _, letters):
            infos = [letter.info async for letter in letters]
        return tuple(infos[:limit])

    async def _show(self, letter_id: str) -> str | None:
        text = None
        async with self._letters(lambda info: info.id == letter_id) as (_, _, letters):
            async for letter in letters:
                if letter.info.id == letter_id:
                    text = letter_text(letter.info, letter.headers, letter.body)
        return text

    async def _replay(self, ids: frozenset[str] | None) -> ReplayCounts:
        replayed = refused = 0
        missing = set(ids or ())
        window = _REPLAY_WINDOW if ids is None else MAX_SEEN

        def wanted(info: DeadLetterInfo) -> bool:
            return ids is None or info.id in ids

        async with self._letters(wanted, window) as (connection, channel, letters):
            seconds = limits.CONFIRM_TIMEOUT_SECONDS
            confirms = await ConfirmChannel.open(connection, seconds, lambda _queue: None, lambda: None)
            try:
                async for letter in letters:
                    if not wanted(letter.info):
                        continue
                    missing.discard(letter.info.id)
                    if await _put_back(confirms, letter):
                        channel.ack(letter.tag, multiple=False)
                        replayed += 1
                    else:
                        refused += 1
            finally:
                confirms.end(AmqpError("the replay is over"))
        return ReplayCounts(replayed, refused, len(missing))

    async def _purge(self, ids: frozenset[str]) -> int:
        purged = 0
        async with self._letters(lambda _: False) as (_, channel, letters):
            async for letter in letters:
                if letter.info.id in ids:
                    channel.ack(letter.tag, multiple=False)
                    purged += 1
        return purged

    @asynccontextmanager
    async def _letters(
        self, keep: Callable[[DeadLetterInfo], bool], window: int = MAX_SEEN
    ) -> AsyncIterator[tuple[Connection, Channel, AsyncIterator[_Letter]]]:
        """The letters that lie there now, oldest first, with the bodies of those to keep.

        All are looked at, even for a short list: what is not acknowledged goes back behind whatever was not looked at.
        """
        try:
            connection = await Connection.open(self._parameters)
            try:
                channel = await connection.channel()
                async with aclosing(_receive(channel, keep, window)) as letters:
                    yield connection, channel, letters
                # An answer means that all acknowledgements before it have been seen.
                await channel.count(DEAD_QUEUE)
                await channel.leave()
            finally:
                await connection.close()
        except ChannelClosed as error:
            missing = f"the broker has no queue {DEAD_QUEUE}: no server or consumer has ever been connected to it"
            raise BrokerUnavailable(missing if error.code == _NOT_FOUND else str(error)) from None
        except AmqpError as error:
            raise BrokerUnavailable(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Letter:
    tag: int
    info: DeadLetterInfo
    headers: Mapping[str, Any]
    body: bytes


async def _receive(
    channel: Channel, keep: Callable[[DeadLetterInfo], bool], window: int
) -> AsyncGenerator[_Letter, None]:
    # Counted first: what is replayed may die again, and must not be met again.
    count = min(await channel.count(DEAD_QUEUE), MAX_SEEN)
    if count == 0:
        return
    arrived: asyncio.Queue[_Letter] = asyncio.Queue()

    def on_message(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
        info = read_letter(properties, body)
        kept = keep(info)
        arrived.put_nowait(
            _Letter(method.delivery_tag, info, (properties.headers or {}) if kept else {}, body if kept else b"")
        )

    # One consumer and not a basic.get each: only a consumer's letters go back in the order in which they came.
    await channel.consume(DEAD_QUEUE, "reader", min(count, window), on_message)
    for _ in range(count):
        try:
            yield await asyncio.wait_for(arrived.get(), _QUIET_SECONDS)
        except TimeoutError:
            if channel.closed is not None:
                raise channel.closed from None
            return


async def _put_back(confirms: ConfirmChannel, letter: _Letter) -> bool:
    """Publishes a letter's body as any other message; True once that is confirmed."""
    if letter.info.partition is None:
        return False
    try:
        await confirms.send(ingest_queue(letter.info.partition), letter.body)
    except QueueFull:
        return False
    except BrokerUnavailable as error:
        if "queue" in error.metadata:
            return False
        raise
    return True
