"""What a consumer has gathered for its next flush, and when it is time for one. Pure: no I/O, no clock of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from tracker.internal.v1 import envelope_pb2 as internal
from tracker_server.envelope import (
    OF_EXPERIMENTS,
    decode_write,
    is_from_outside,
    read_envelope,
    wrap_write,
)
from tracker_server.envelope_values import Undecodable
from tracker_server.model.writes import Heartbeat, LeaseMarker, Write
from tracker_server.ports import DeadLetter, Delivery
from tracker_server.store.ledger import DeadWrite


class SessionLost(Exception):
    """The channel that a batch came on is gone: its messages will be delivered again."""


class Reason(Enum):
    """Why a batch is flushed."""

    POINTS = "points"
    BYTES = "bytes"
    AGE = "age"
    IDLE = "idle"
    WINDOW = "window"
    """A partition has delivered all that it may before an acknowledgement."""
    ALONE = "alone"
    """A message that may be what killed earlier consumers is handled by itself."""
    DRAIN = "drain"
    """Partitions are given up, or the process stops."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is full."""

    points: int
    size: int
    """Bytes."""
    seconds: float
    """Age of its oldest message. 0: flush whenever the writer is free."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter and where it came from."""

    delivery: Delivery
    index: int
    """Position of the write in its message; -1: the whole message."""
    letter: DeadLetter
    identity: DeadWrite | None
    """None where the message could not be taken apart, or the write needs no number."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a write of the batch came from."""

    delivery: Delivery
    index: int
    raw: internal.Write


@dataclass(slots=True)
class Batch:
    """Deliveries of one session, decoded."""

    session: int
    started: float = 0.0
    """When its first message came, by the caller's clock."""
    deliveries: list[Delivery] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    """One per write."""
    letters: list[Letter] = field(default_factory=list)
    """What could not be decoded."""
    suspect: Delivery | None = None
    """The only delivery, not decoded yet, since it may be what kills consumers."""
    counts: Counter[int] = field(default_factory=Counter)
    """Deliveries per partition."""
    points: int = 0
    size: int = 0
    awaited: bool = False
    """Whether it has something that a reader may wait for: more than signs of life."""

    def __bool__(self) -> bool:
        return bool(self.deliveries)

    def add(self, delivery: Delivery, now: float) -> None:
        """Takes a delivery apart. What cannot be read becomes a dead letter."""
        self._note(delivery, now)
        self._decode(delivery)

    def full(self, limits: BatchLimits) -> Reason | None:
        """Why nothing more may be added, if so."""
        if self.points >= limits.points:
            return Reason.POINTS
        return Reason.BYTES if self.size >= limits.size else None

    def hold_suspect(self, delivery: Delivery, now: float) -> None:
        """Takes a delivery as it is, to be handled alone."""
        self._note(delivery, now)
        self.suspect = delivery

    def clear_suspect(self) -> None:
        """Takes the suspect apart like any other delivery."""
        delivery, self.suspect = self._taken_suspect(), None
        self._decode(delivery)

    def bury_suspect(self, reason: str) -> None:
        """Makes dead letters of the suspect's writes, none of which is decoded."""
        delivery, self.suspect = self._taken_suspect(), None
        try:
            raws = read_envelope(delivery.body)
        except Undecodable:
            self.letters.append(whole_letter(delivery, reason))
        else:
            self.letters.extend(write_letter(Origin(delivery, i, raw), reason) for i, raw in enumerate(raws))

    def _decode(self, delivery: Delivery) -> None:
        try:
            raws = read_envelope(delivery.body)
        except Undecodable as error:
            self.letters.append(whole_letter(delivery, str(error)))
            return
        for index, raw in enumerate(raws):
            origin = Origin(delivery, index, raw)
            try:
                write = decode_write(raw)
            except Undecodable as error:
                self.letters.append(write_letter(origin, str(error)))
                continue
            self.writes.append(write)
            self.origins.append(origin)
            self.points += write.points
            self.awaited = self.awaited or not isinstance(write.body, Heartbeat | LeaseMarker)

    def _taken_suspect(self) -> Delivery:
        assert self.suspect is not None
        return self.suspect

    def _note(self, delivery: Delivery, now: float) -> None:
        if not self.deliveries:
            self.started = now
            self.session = delivery.session
        self.deliveries.append(delivery)
        self.counts[delivery.partition] += 1
        self.size += len(delivery.body)


def whole_letter(delivery: Delivery, reason: str) -> Letter:
    """A dead letter of a whole message."""
    return Letter(delivery, -1, DeadLetter(delivery.body, delivery.partition, reason), None)


def write_letter(origin: Origin, reason: str) -> Letter:
    """A dead letter of one write, in its original bytes."""
    raw = origin.raw
    identity = None
    if raw.scope_id and raw.writer_id and raw.sequence > 0 and "\0" not in raw.scope_id + raw.writer_id:
        experiment = raw.kind in OF_EXPERIMENTS
        open_ended = raw.server_assigned or is_from_outside(raw)
        identity = DeadWrite(raw.scope_id, experiment, raw.writer_id, raw.sequence, open_ended)
    letter = DeadLetter(wrap_write(raw), origin.delivery.partition, reason, raw.scope_id, raw.writer_id, raw.sequence)
    return Letter(origin.delivery, origin.index, letter, identity)
