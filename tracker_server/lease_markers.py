"""A server's lease markers: sent through every partition now and then, on the way that all writes take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from tracker.internal.v1 import envelope_pb2 as internal
from tracker_server.errors import TrackerError
from tracker_server.identity import wall_clock_ms
from tracker_server.ids import new_id
from tracker_server.ingest import Ingest
from tracker_server.model.leases import Lease
from tracker_server.partitions import partition_of


class LeaseMarkers:
    """Says in every partition that this server takes writes; what that is good for: model/leases.py."""

    def __init__(
        self, ingest: Ingest, partitions: int, lease: Lease, now_ms: Callable[[], int] = wall_clock_ms
    ) -> None:
        self._ingest = ingest
        self._seconds = lease.marker_ms / 1000
        self._now_ms = now_ms
        self._server_id = new_id()
        self._lanes = [_Lane(partition, scope_in(partition, partitions)) for partition in range(partitions)]

    async def keep(self) -> None:
        """Sends markers until cancelled. A partition that is stuck holds up no other one."""
        sending: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                for lane in self._lanes:
                    if lane.partition not in sending or sending[lane.partition].done():
                        sending[lane.partition] = asyncio.create_task(self._send(lane), name="lease marker")
                await asyncio.sleep(self._seconds)
        finally:
            for task in sending.values():
                task.cancel()

    async def _send(self, lane: _Lane) -> None:
        turned_away = self._ingest.turned_away(lane.partition)
        marker = internal.LeaseMarker(
            server_id=self._server_id,
            partition=lane.partition,
            interrupted=turned_away != lane.turned_away,
        )
        # Stamped and put in line in one go, so that it stands behind whatever was accepted earlier.
        write = internal.Write(
            kind=internal.WRITE_KIND_LEASE_MARKER,
            scope_id=lane.scope_id,
            accepted_at_unix_ms=self._now_ms(),
            payload=marker.SerializeToString(),
        )
        try:
            await self._ingest.submit(write, None)
        except TrackerError:
            return  # that it is missing says enough
        lane.turned_away = turned_away


def scope_in(partition: int, partitions: int) -> str:
    """An id that belongs to the partition, found by trying."""
    return next(
        name for number in count() if partition_of(name := f"lease-{partition}-{number}", partitions) == partition
    )


class _Lane:
    """What is known of a partition."""

    __slots__ = ("partition", "scope_id", "turned_away")

    def __init__(self, partition: int, scope_id: str) -> None:
        self.partition = partition
        self.scope_id = scope_id
        self.turned_away = 0
        """The count that the last confirmed marker told of."""
