"""From accepted writes to messages: coalesced per partition, published, and answered by their message's one confirm."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tracker.internal.v1 import envelope_pb2 as internal
from tracker_server import limits
from tracker_server.envelope import VERSION
from tracker_server.errors import BrokerUnavailable, ShuttingDown, TooManyOutstanding, WriteRefused
from tracker_server.partitions import partition_of
from tracker_server.ports import Publisher, Refusal


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """How much an Ingest takes on."""

    coalesced_bytes: int = limits.MAX_COALESCED_BYTES
    """One message holds at most so much, or one write."""
    outstanding_writes: int = limits.MAX_OUTSTANDING_WRITES
    """Unconfirmed writes, waiting ones included."""
    outstanding_bytes: int = limits.MAX_OUTSTANDING_BYTES
    """Their bytes."""
    publishes_in_flight: int = 1
    """Unconfirmed messages of one partition. What comes meanwhile goes into the next one: with two, messages were half as
    large, and requests of 10 metrics x 100 steps went through half as fast."""
    pause_seconds: float = 0.00025
    """A partition's next message leaves so long after the one before left, times the writes that this one has and that came
    meanwhile, less one: a single caller waits for nobody, and of many callers each message has many writes. A message
    costs broker, server and consumer half a millisecond of CPU, however small it is."""
    longest_pause_seconds: float = 0.003
    """But no longer after it."""
    longest_wait_seconds: float = 2 * limits.CONFIRM_TIMEOUT_SECONDS
    """How long a caller without a deadline waits."""


class Ingest:
    """Takes writes and returns once they are durable. On the event loop, without a task or a lock per write."""

    def __init__(self, publisher: Publisher, partitions: int, ingest_limits: IngestLimits | None = None) -> None:
        self._publisher = publisher
        self._limits = ingest_limits or IngestLimits()
        self._lanes = [_Lane(partition) for partition in range(partitions)]
        self._pumps: set[asyncio.Task[None]] = set()
        self._writes = 0
        self._bytes = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def accepting(self) -> bool:
        """Whether a write has a chance just now."""
        return not self._closing and self._publisher.accepting

    @property
    def outstanding(self) -> int:
        """Writes that are neither confirmed nor given up."""
        return self._writes

    def turned_away(self, partition: int) -> int:
        """How many writes of a partition were refused so far, or could not be sent, though they might be taken later.

        Those that reached no message for want of time do not count: how much of it there is, callers say.
        """
        return self._lanes[partition].turned_away

    async def submit(self, write: internal.Write, timeout: float | None) -> None:
        """Returns once the write is durable.

        timeout: seconds to wait for that at most; None: longest_wait_seconds. What is given up before it was sent is
        never sent; of what was sent, nobody knows whether it was taken.

        Raises ShuttingDown, BrokerUnavailable, QueueFull, TooManyOutstanding, or WriteRefused for a write that can
        never be stored.
        """
        if self._closing:
            raise ShuttingDown
        lane = self._lanes[partition_of(write.scope_id, len(self._lanes))]
        if not self._publisher.accepting:
            lane.turned_away += 1
            message = "The message broker is out of reach just now; nothing was written."
            raise BrokerUnavailable(message, outcome="not_written")
        wait = self._limits.longest_wait_seconds if timeout is None else timeout
        if wait <= 0:
            raise BrokerUnavailable(_TOO_LATE, outcome="not_written")
        body = write.SerializeToString()
        self._admit(lane, len(body))
        loop = asyncio.get_running_loop()
        entry = _Entry(body, loop.create_future())
        self._enqueue(lane, entry)
        timer = loop.call_later(wait, self._expire, entry)
        try:
            error = await entry.answer
        finally:
            timer.cancel()
            if not entry.sent:
                self._drop(entry)
        if error is not None:
            raise error.with_traceback(None)  # one error may answer many writes; each raises it anew

    async def drain(self, timeout: float) -> int:
        """Takes no more writes, and waits until those taken are answered, at most timeout seconds.

        Returns how many were not confirmed by then. They are answered all the same: those not yet sent with
        ShuttingDown, the others with BrokerUnavailable.
        """
        self._closing = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            unconfirmed = self._writes
            for entry in [entry for lane in self._lanes for entry in (*lane.waiting, *lane.sent)]:
                if not entry.answer.done():
                    entry.answer.set_result(
                        BrokerUnavailable(_UNCONFIRMED, outcome="unknown") if entry.sent else ShuttingDown()
                    )
            return unconfirmed
        return 0

    def _admit(self, lane: _Lane, size: int) -> None:
        if self._writes >= self._limits.outstanding_writes or self._bytes + size > self._limits.outstanding_bytes:
            lane.turned_away += 1
            message = (
                f"This server holds {self._writes} unconfirmed writes of {self._bytes} bytes; nothing was written."
            )
            raise TooManyOutstanding(
                message,
                outstanding_writes=str(self._writes),
                outstanding_bytes=str(self._bytes),
                max_outstanding_writes=str(self._limits.outstanding_writes),
                max_outstanding_bytes=str(self._limits.outstanding_bytes),
            )

    def _enqueue(self, lane: _Lane, entry: _Entry) -> None:
        self._writes += 1
        self._bytes += len(entry.body)
        self._idle.clear()
        lane.waiting.append(entry)
        if lane.pumps < self._limits.publishes_in_flight:
            lane.pumps += 1
            # The task begins in the loop's next turn: what else arrives in this one goes along.
            pump = asyncio.get_running_loop().create_task(self._pump(lane))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, lane: _Lane) -> None:
        """Sends what waits, message by message, until nothing does."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await _sleep_until(loop, lane.due)
                began = loop.time()
                batch = self._take(lane)
                if not batch:
                    return
                lane.sent.update(batch)
                try:
                    await self._publish(lane, batch)
                finally:
                    lane.sent.difference_update(batch)
                # The most of late: now and then few come together by chance, and few they would stay.
                lane.others = max(len(batch) + len(lane.waiting) - 1, lane.others * _OTHERS_KEPT)
                lane.due = began + min(lane.others * self._limits.pause_seconds, self._limits.longest_pause_seconds)
        finally:
            lane.pumps -= 1

    def _take(self, lane: _Lane) -> list[_Entry]:
        """The next message's writes: those that still have somebody waiting."""
        batch: list[_Entry] = []
        size = 0
        while lane.waiting:
            entry = lane.waiting[0]
            if entry.answer.done():
                self._drop(entry)
                self._settle(1, 0)
            elif batch and size + len(entry.body) > self._limits.coalesced_bytes:
                break
            else:
                entry.sent = True
                size += len(entry.body)
                batch.append(entry)
            lane.waiting.popleft()
        return batch

    async def _publish(self, lane: _Lane, batch: Sequence[_Entry]) -> None:
        error: Exception | None = BrokerUnavailable(outcome="unknown")  # for a pump that is cancelled
        refusals: Sequence[Refusal] = ()
        try:
            refusals = await self._publisher.publish(lane.partition, envelope_of([entry.body for entry in batch]))
            error = None
        except Exception as failure:  # noqa: BLE001  # whatever it is, it is the answer of all who wait
            error = failure
            lane.turned_away += len(batch)
        finally:
            refused = {refusal.index: refusal.reason for refusal in refusals}
            for index, entry in enumerate(batch):
                if not entry.answer.done():
                    entry.answer.set_result(WriteRefused(refused[index]) if index in refused else error)
            self._settle(len(batch), sum(len(entry.body) for entry in batch))

    def _expire(self, entry: _Entry) -> None:
        if entry.answer.done():
            return
        if entry.sent:
            entry.answer.set_result(BrokerUnavailable(_UNCONFIRMED, outcome="unknown"))
        else:
            entry.answer.set_result(BrokerUnavailable(_TOO_LATE, outcome="not_written"))

    def _drop(self, entry: _Entry) -> None:
        """Frees what will not be sent. Its place in the line, and in the count, goes when its turn comes."""
        self._bytes -= len(entry.body)
        entry.body = b""

    def _settle(self, writes: int, size: int) -> None:
        self._writes -= writes
        self._bytes -= size
        if not self._writes:
            self._idle.set()


def envelope_of(writes: Sequence[bytes]) -> bytes:
    """The encoding of an Envelope of these encoded writes, without decoding any."""
    parts = [_VERSION]
    for write in writes:
        parts += _WRITE, _varint(len(write)), write
    return b"".join(parts)


class _Entry:
    """A write that somebody waits for."""

    __slots__ = ("answer", "body", "sent")

    def __init__(self, body: bytes, answer: asyncio.Future[Exception | None]) -> None:
        self.body = body
        self.answer = answer
        self.sent = False


class _Lane:
    """The writes of one partition: those that wait to be sent, and those that wait for their confirm."""

    __slots__ = ("due", "others", "partition", "pumps", "sent", "turned_away", "waiting")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.waiting: deque[_Entry] = deque()
        self.sent: set[_Entry] = set()
        self.pumps = 0
        self.others = 0.0
        """Writes that lately came together with one."""
        self.due = 0.0
        """When the next message leaves, at the earliest."""
        self.turned_away = 0


async def _sleep_until(loop: asyncio.AbstractEventLoop, moment: float) -> None:
    seconds = moment - loop.time()
    if seconds > 0:
        await asyncio.sleep(seconds)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_OTHERS_KEPT: Final = 0.9
"""Of what is known of a partition's callers, from message to message."""
_UNCONFIRMED: Final = "The message broker did not confirm in time; the write may or may not be taken."
_TOO_LATE: Final = "The write could not be sent to the message broker within the deadline; nothing was written."
_VERSION: Final = internal.Envelope(version=VERSION).SerializeToString()
_WRITE: Final = bytes([internal.Envelope.WRITES_FIELD_NUMBER << 3 | 2])
"""Tag of a length-delimited field."""
