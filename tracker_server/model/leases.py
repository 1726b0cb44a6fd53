"""When an attempt is lost. Rules without I/O and without a clock of their own: all times are those that servers stamped.

Each server sends a marker through every partition now and then. What it had accepted before lies before the marker in
the partition's queue, so once the marker is applied, every sign of life that this server took earlier is in the
database. The earliest of the last markers of all servers is the partition's watermark: nothing older is under way.
Leases are judged by it alone, however late that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tracker_server import limits


@dataclass(frozen=True, slots=True)
class Lease:
    """How long an attempt counts as alive after a sign of life, and what follows from that."""

    seconds: int = limits.LEASE_SECONDS

    @property
    def length_ms(self) -> int:
        """The same in milliseconds."""
        return self.seconds * 1000

    @property
    def seen_granularity_ms(self) -> int:
        """Signs of life are rounded down to this, and heartbeats that come faster are not written."""
        return min(limits.SEEN_GRANULARITY_MS, self.length_ms // 12)

    @property
    def slack_ms(self) -> int:
        """How much earlier than the last heartbeat the last sign of life in the database may be."""
        return 2 * self.seen_granularity_ms

    @property
    def marker_ms(self) -> int:
        """Time between two markers of a server."""
        return min(limits.LEASE_MARKER_MS, self.length_ms // 12)

    @property
    def gap_ms(self) -> int:
        """Markers further apart say that the server was away, or its clock was set: three are missing."""
        return self.marker_ms * 7 // 2

    @property
    def absence_ms(self) -> int:
        """For so long a server that is away is waited for; then it counts as gone for good."""
        return self.length_ms

    @property
    def heartbeat_seconds(self) -> int:
        """How often clients should send heartbeats: three may be lost within a lease."""
        return max(1, min(limits.HEARTBEAT_SECONDS, self.seconds // 4))


DEFAULT_LEASE = Lease()
"""Where no setting says otherwise."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A server's marker in one partition."""

    server_id: str
    at_ms: int
    """When the server sent it, by its own clock."""
    interrupted: bool = False
    """Since its last one the server had to turn writes of the partition away."""


@dataclass(frozen=True, slots=True)
class Presence:
    """How long a server has been taking writes of a partition."""

    since_ms: int
    """Without interruption."""
    last_ms: int
    """Its latest marker."""


def follow(servers: Mapping[str, Presence], marker: Marker, lease: Lease) -> dict[str, Presence]:
    """The servers of a partition after a marker, by id.

    One that is away for too long is forgotten, and every lease begins anew: its callers have to find another one. The
    same becomes of servers whose clocks differ by more than a lease, again and again, so that they judge nothing.
    A marker that came before, or one of a clock that was set back a little, changes nothing.
    """
    at = marker.at_ms
    after = {name: known for name, known in servers.items() if abs(at - known.last_ms) <= lease.absence_ms}
    known = after.get(marker.server_id)
    if known is None or at - known.last_ms > lease.gap_ms:
        after[marker.server_id] = Presence(at, at)
    else:
        anew = marker.interrupted or len(after) < len(servers)
        since = max(known.since_ms, at) if anew else known.since_ms
        after[marker.server_id] = Presence(since, max(known.last_ms, at))
    return after


def expired_before(servers: Mapping[str, Presence], lease: Lease) -> int | None:
    """Attempts without a sign of life at this moment or later have outlived their lease; None: nobody can have.

    A lease runs from the last sign of life, or from when all servers were there to take one, whichever is later.
    """
    if not servers:
        return None
    watermark = min(known.last_ms for known in servers.values())
    moment = watermark - lease.length_ms - lease.slack_ms
    return moment if max(known.since_ms for known in servers.values()) < moment else None


def reason_of_loss(last_seen_ms: int) -> str:
    """Why an attempt is lost, for people."""
    if last_seen_ms == limits.MIN_TIME_MS:
        return "never seen alive: it was sent afterwards, and no end with it"
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=last_seen_ms)
    return f"no sign of life since {moment:%Y-%m-%dT%H:%M:%SZ}"
