"""What the tracker needs from the outside world: small Protocols, each with one adapter per technology."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

# ---------------------------------------------------------------- broker


@dataclass(frozen=True, slots=True)
class Refusal:
    """A write of a published message that can never be stored. Only the in-process broker knows at once."""

    index: int
    """Position of the write in its envelope."""
    reason: str
    """Why, for people."""


class Publisher(Protocol):
    """The server's side of the broker. All methods are called on the event loop."""

    @property
    def accepting(self) -> bool:
        """Whether a publish has a chance just now: connected, and not blocked by the broker."""

    async def start(self) -> None:
        """Begins to connect, and goes on by itself for ever. Does not wait for the connection."""

    async def publish(self, partition: int, body: bytes) -> Sequence[Refusal]:
        """Returns once the message is durable. Many may be in flight.

        Raises BrokerUnavailable (not connected, blocked, connection lost, confirm too late: outcome unknown) or
        QueueFull (the broker refused it).
        """

    async def close(self) -> None:
        """Waits for nothing: what is unconfirmed fails with BrokerUnavailable."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message handed to a consumer."""

    partition: int
    body: bytes
    session: int
    """Number of the channel it came on; tags mean nothing on another one."""
    tag: int
    """Position within the session, ascending."""
    delivery_count: int
    """How often it was delivered before, as far as the broker knows."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message, or one write of it, that can never be stored."""

    body: bytes
    """An envelope with the write alone in its original bytes, or the whole message where it cannot be taken apart."""
    partition: int
    reason: str
    """Why, for people."""
    scope_id: str = ""
    writer_id: str = ""
    sequence: int = 0


class Subscriber(Protocol):
    """The consumer's side of the broker. All methods are called on the event loop."""

    @property
    def session(self) -> int:
        """Number of the present channel; grows with every reconnect."""

    @property
    def connected(self) -> bool:
        """Whether deliveries can arrive just now."""

    async def start(self) -> None:
        """Begins to connect, and goes on by itself for ever."""

    async def hold(self, prefetch: Mapping[int, int]) -> None:
        """Consumes exactly the partitions given, each with so many unacknowledged messages at most.

        Remembered over reconnects. Returns once partitions given up are cancelled: what they had delivered is in
        receive()'s queue by then. Does not wait for a broker that is away.
        """

    async def receive(self, timeout: float) -> Delivery | None:
        """The next delivery, or None after timeout seconds (0: without waiting). Never one of an old session."""

    async def ack(self, delivery: Delivery) -> None:
        """Acknowledges this delivery and all before it in its session but those withheld. Of an old session: does nothing."""

    def withhold(self, delivery: Delivery) -> None:
        """Leaves this delivery, which is not acknowledged yet, out of every `ack`, until it is released."""

    async def release(self, delivery: Delivery) -> None:
        """Acknowledges a delivery that was withheld. Of an old session: does nothing."""

    async def bury(self, delivery: Delivery, letters: Sequence[tuple[int, DeadLetter]]) -> None:
        """Puts dead letters of a delivery away, confirmed, before it is acknowledged.

        Each comes with the index of its write in the envelope, -1 for the whole message.
        Raises BrokerUnavailable or QueueFull (the dead-letter queue is full).
        """

    async def close(self) -> None:
        """Gives up the channel; what was not acknowledged will be delivered again."""


# ---------------------------------------------------------------- changes and events

Revisions: TypeAlias = Mapping[int, int]
"""Partitions, and how far each has come."""


class ChangeNotices(Protocol):
    """How consumers tell servers that runs have changed. A notice may be lost: it only wakes."""

    def send(self, revisions: Revisions) -> None:
        """Tells every server. Neither waits nor raises."""


class ChangeFeed(Protocol):
    """How servers are told that runs have changed."""

    async def start(self, on_change: Callable[[Revisions], None]) -> None:
        """Begins to listen, and goes on by itself for ever. Each notice is given to on_change, on the event loop."""

    async def close(self) -> None:
        """Listens no more."""


@dataclass(frozen=True, slots=True)
class Event:
    """What other services are told of, ready to be published."""

    id: str
    """The same for every publishing of the same event."""
    routing_key: str
    body: bytes
    """JSON."""


class Events(Protocol):
    """How consumers tell other services of what has happened."""

    async def start(self) -> None:
        """Begins to connect, and goes on by itself for ever."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Returns once the broker has all of them, whoever is bound to receive them. Raises BrokerUnavailable."""

    async def close(self) -> None:
        """What is unconfirmed fails with BrokerUnavailable."""


# ---------------------------------------------------------------- cache


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What a cache knows of a key."""

    value: bytes | None
    """The cached bytes, if they are of the present generation."""
    generation: bytes
    """The generation to fill under: read before loading. Empty: the cache is out of reach, do not fill."""


class Cache(Protocol):
    """A cache with random generations per scope. Never raises: out of reach means a miss, counted."""

    async def read(self, scope: str, key: str) -> CacheEntry:
        """Value and generation, taken together."""

    async def fill(self, scope: str, key: str, value: bytes, generation: bytes, ttl_seconds: int) -> None:
        """Stores a value under the generation that `read` gave before it was loaded."""

    async def bump(self, scopes: Collection[str]) -> Collection[str]:
        """Gives each scope a new random generation. Returns those for which it failed."""

    async def new_epoch(self) -> bool:
        """Makes everything cached so far, in every scope, worthless. False: the cache is out of reach."""

    async def ping(self) -> None:
        """Raises with the cause when the cache is out of reach."""

    async def close(self) -> None:
        """Closes connections."""


# ---------------------------------------------------------------- partition assignment


class Assignment(Protocol):
    """Shares the partitions out among the living consumers. Blocking; called from one worker thread."""

    def renew(self) -> frozenset[int]:
        """Says "alive", and returns the partitions to hold now: those that stay held plus those newly locked.

        Partitions held before and missing from the answer are surplus (or lost): stop consuming them, flush,
        acknowledge, then call release. Raises StoreUnavailable; every lock is then lost.
        """

    def release(self, partitions: Collection[int]) -> None:
        """Unlocks partitions that are consumed no more."""

    def close(self) -> None:
        """Takes the registration back and unlocks everything."""
