"""When a heartbeat becomes a write, and what it is answered while the broker is away."""

from __future__ import annotations

import asyncio

import pytest

from tests.fake_publisher import FakePublisher
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server.errors import BrokerUnavailable, QueueFull, WriteRefused
from tracker_server.heartbeats import Heartbeats
from tracker_server.identity import Identity
from tracker_server.ingest import Ingest
from tracker_server.ports import Refusal


class Flags:
    """Stop flags of a test."""

    def __init__(self) -> None:
        self.stopped: set[str] = set()

    def stop_requested(self, run_id: str, attempt: int) -> bool:
        return run_id in self.stopped and attempt == 0


class Harness:
    """Heartbeats over a fake publisher, with a clock of the test's own."""

    def __init__(self, remembered: int = 100) -> None:
        self.publisher = FakePublisher()
        self.flags = Flags()
        self.now = 1_000.0
        self.heartbeats = Heartbeats(
            Ingest(self.publisher, 4),
            Identity(),
            self.flags,
            monotonic=lambda: self.now,
            max_remembered_runs=remembered,
        )

    async def beat(self, run_id: str = "run", attempt: int = 0) -> public.HeartbeatResponse:
        return await self.heartbeats.beat(public.HeartbeatRequest(run_id=run_id, attempt=attempt), 5.0)

    @property
    def written(self) -> int:
        return len(self.publisher.writes)


@pytest.fixture
async def harness() -> Harness:
    return Harness()


async def test_a_heartbeat_becomes_a_write_without_a_number(harness: Harness) -> None:
    answer = await harness.beat(attempt=7)
    assert (answer.stop_requested, answer.lease_seconds) == (False, 120)
    (write,) = harness.publisher.writes
    assert (write.kind, write.scope_id, write.writer_id, write.sequence, write.attempt) == (
        internal.WRITE_KIND_HEARTBEAT, "run", "", 0, 7,
    )  # fmt: skip


async def test_at_most_one_write_in_ten_seconds(harness: Harness) -> None:
    for _ in range(20):
        await harness.beat()
        harness.now += 0.999
    assert harness.written == 2
    await harness.beat("other")
    assert harness.written == 3


async def test_a_new_attempt_is_written_at_once(harness: Harness) -> None:
    await harness.beat(attempt=1)
    await harness.beat(attempt=2)
    await harness.beat(attempt=2)
    assert [write.attempt for write in harness.publisher.writes] == [1, 2]


async def test_who_comes_while_one_is_being_written_does_not_wait(harness: Harness) -> None:
    harness.publisher.held = True
    first = asyncio.create_task(harness.beat())
    await harness.publisher.until_published(1)
    await asyncio.wait_for(harness.beat(), 5)
    assert not first.done()
    harness.publisher.confirm()
    await first
    assert harness.written == 1


async def test_stop_flags_are_told_on_every_answer(harness: Harness) -> None:
    assert not (await harness.beat()).stop_requested
    harness.flags.stopped.add("run")
    assert (await harness.beat()).stop_requested
    assert not (await harness.beat("other")).stop_requested
    assert harness.written == 2


@pytest.mark.parametrize("error", [BrokerUnavailable(), QueueFull()])
async def test_a_broker_that_is_away_is_told_only_after_half_a_lease(harness: Harness, error: Exception) -> None:
    await harness.beat()
    harness.publisher.error = error
    harness.flags.stopped.add("run")
    harness.now += 60
    assert (await harness.beat()).stop_requested
    harness.now += 0.5
    with pytest.raises(type(error)):
        await harness.beat()
    assert harness.written == 3, "after a failure the next one tries again"
    harness.publisher.error = None
    await harness.beat()
    harness.publisher.error = error
    harness.now += 60
    await harness.beat()


async def test_a_run_never_seen_gets_the_benefit_of_the_doubt(harness: Harness) -> None:
    harness.publisher.accepting = False
    await harness.beat()
    harness.now += 60.5
    with pytest.raises(BrokerUnavailable):
        await harness.beat()


async def test_a_heartbeat_that_can_never_be_stored_is_told_at_once(harness: Harness) -> None:
    harness.publisher.refusals = [Refusal(0, "why")]
    with pytest.raises(WriteRefused, match="why"):
        await harness.beat()


async def test_a_caller_who_goes_leaves_no_gap(harness: Harness) -> None:
    harness.publisher.held = True
    first = asyncio.create_task(harness.beat())
    await harness.publisher.until_published(1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    harness.publisher.release()
    await harness.beat()
    assert harness.written == 2


async def test_memory_is_bounded() -> None:
    harness = Harness(remembered=3)
    for run in ["a", "b", "c", "a", "d"]:
        await harness.beat(run)
    assert harness.written == 4
    await harness.beat("a")
    assert harness.written == 4, "the one not heard of for longest is forgotten"
    await harness.beat("b")
    assert harness.written == 5
