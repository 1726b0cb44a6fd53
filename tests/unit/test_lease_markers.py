"""When a server says that it takes writes, and when it does not say so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fake_publisher import FakePublisher
from tracker.internal.v1 import envelope_pb2 as internal
from tracker_server.envelope import decode_write
from tracker_server.errors import QueueFull
from tracker_server.ingest import Ingest
from tracker_server.lease_markers import LeaseMarkers, scope_in
from tracker_server.model.leases import Lease
from tracker_server.model.writes import LeaseMarker
from tracker_server.partitions import partition_of

QUICK = Lease(1)
"""A marker each 83 ms."""
NOW = 1_700_000_000_000


@pytest.fixture
async def publisher() -> FakePublisher:
    return FakePublisher()


@contextmanager
def kept(ingest: Ingest, partitions: int, lease: Lease = QUICK) -> Iterator[None]:
    task = asyncio.create_task(LeaseMarkers(ingest, partitions, lease, lambda: NOW).keep())
    try:
        yield
    finally:
        task.cancel()


def told(publisher: FakePublisher) -> list[LeaseMarker]:
    bodies = [decode_write(write).body for write in publisher.writes if write.kind == internal.WRITE_KIND_LEASE_MARKER]
    return [body for body in bodies if isinstance(body, LeaseMarker)]


async def test_each_partition_gets_its_markers_again_and_again(publisher: FakePublisher) -> None:
    with kept(Ingest(publisher, 3), 3):
        await publisher.until_published(9)
    assert [partition for partition, _ in publisher.messages[:9]] == [0, 1, 2] * 3
    markers = told(publisher)
    assert [marker.partition for marker in markers[:9]] == [0, 1, 2] * 3
    assert len({marker.server_id for marker in markers}) == 1
    assert not any(marker.interrupted for marker in markers)
    for write in publisher.writes:
        assert (write.writer_id, write.sequence, write.attempt, write.accepted_at_unix_ms) == ("", 0, 0, NOW)


async def test_a_marker_stands_behind_what_was_accepted_before(publisher: FakePublisher) -> None:
    publisher.held = True
    ingest = Ingest(publisher, 1)
    writes = [internal.Write(scope_id="run", sequence=number) for number in (1, 2)]
    tasks = [asyncio.create_task(ingest.submit(write, 10)) for write in writes]
    await publisher.until_published(1)
    late = internal.Write(scope_id="run", sequence=3)
    tasks.append(asyncio.create_task(ingest.submit(late, 10)))
    await asyncio.sleep(0)
    with kept(ingest, 1):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        publisher.release()
        await publisher.until_published(2)
    assert [[write.sequence for write in envelope.writes] for _, envelope in publisher.messages[:2]] == [[1, 2], [3, 0]]
    await asyncio.gather(*tasks)


async def test_what_was_turned_away_is_told_until_a_marker_has_arrived(publisher: FakePublisher) -> None:
    ingest = Ingest(publisher, 1)
    publisher.error = QueueFull()
    with contextlib.suppress(QueueFull):
        await ingest.submit(internal.Write(scope_id="run", sequence=1), 10)
    with kept(ingest, 1):
        await publisher.until_published(4)
        publisher.error = None
        await publisher.until_published(7)
    flags = [marker.interrupted for marker in told(publisher)]
    failed = ingest.turned_away(0) - 1
    assert failed >= 3
    assert flags == [True] * (failed + 1) + [False] * (len(flags) - failed - 1)
    assert not flags[-1]


async def test_a_partition_that_is_stuck_holds_up_no_other_one(publisher: FakePublisher) -> None:
    publisher.held = True
    with kept(Ingest(publisher, 2), 2):
        await publisher.until_published(2)
        publisher.confirm(1)
        await publisher.until_published(3)
    assert [partition for partition, _ in publisher.messages] == [0, 1, 0]


async def test_a_broker_that_is_away_and_a_server_that_stops_end_no_work(publisher: FakePublisher) -> None:
    publisher.accepting = False
    ingest = Ingest(publisher, 1)
    with kept(ingest, 1):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ingest.turned_away(0) == 1
        publisher.accepting = True
        await publisher.until_published(2)
        await ingest.drain(1)
        seen = len(publisher.messages)
        await asyncio.sleep(2 * QUICK.marker_ms / 1000)
        assert len(publisher.messages) == seen


@pytest.mark.parametrize("partitions", [1, 2, 7, 8, 256])
def test_each_partition_has_a_name_that_belongs_to_it(partitions: int) -> None:
    for partition in range(partitions):
        assert partition_of(scope_in(partition, partitions), partitions) == partition
