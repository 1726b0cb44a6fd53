"""What a batch makes of deliveries."""

from __future__ import annotations

import time

import pytest

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server.consumer.batch import Batch, BatchLimits, Reason
from tracker_server.consumer.dead_limit import LEAST, WINDOW, DeadLimit
from tracker_server.consumer.share import size_class, windows
from tracker_server.limits import MAX_PREFETCH, MAX_REQUEST_BYTES, PREFETCH_BYTES
from tracker_server.ports import Delivery


def good_write(sequence: int) -> internal.Write:
    """A write that can be stored."""
    return internal.Write(
        kind=internal.WRITE_KIND_LOG_METRIC,
        scope_id="run",
        writer_id="writer-0123456789",
        sequence=sequence,
        accepted_at_unix_ms=time.time_ns() // 1_000_000,
        payload=public.LogMetricRequest(run_id="run", name="loss", value=1, step=sequence).SerializeToString(),
    )


def delivery(*writes: internal.Write, tag: int = 1, partition: int = 0, version: int = 1) -> Delivery:
    """A message with these writes."""
    body = internal.Envelope(version=version, writes=writes).SerializeToString()
    return Delivery(partition, body, session=1, tag=tag, delivery_count=0)


def test_a_bad_write_becomes_a_letter_and_its_neighbours_stay() -> None:
    bad = good_write(2)
    bad.payload = b"\xff\xff"
    batch = Batch(1)
    batch.add(delivery(good_write(1), bad, good_write(3)), 0.0)
    assert [write.sequence for write in batch.writes] == [1, 3]
    (letter,) = batch.letters
    assert letter.index == 1
    assert letter.identity is not None
    assert letter.identity.sequence == 2
    again = internal.Envelope.FromString(letter.letter.body)
    assert list(again.writes) == [bad], "a letter holds the write in its original bytes"


def test_a_message_of_a_future_version_becomes_one_letter_with_its_version() -> None:
    batch = Batch(1)
    batch.add(delivery(good_write(1), version=2), 0.0)
    (letter,) = batch.letters
    assert letter.index == -1
    assert "version 2" in letter.letter.reason


def test_a_batch_is_full_by_points_and_by_bytes() -> None:
    batch = Batch(1)
    batch.add(delivery(good_write(1), good_write(2)), 0.0)
    assert batch.full(BatchLimits(points=3, size=10_000, seconds=1)) is None
    assert batch.full(BatchLimits(points=2, size=10_000, seconds=1)) is Reason.POINTS
    assert batch.full(BatchLimits(points=3, size=10, seconds=1)) is Reason.BYTES


def test_a_suspect_is_not_decoded_until_it_is_cleared() -> None:
    batch = Batch(1)
    batch.hold_suspect(delivery(good_write(1)), 0.0)
    assert batch
    assert not batch.writes
    batch.clear_suspect()
    assert [write.sequence for write in batch.writes] == [1]


def test_a_buried_suspect_leaves_a_letter_for_each_of_its_writes() -> None:
    batch = Batch(1)
    batch.hold_suspect(delivery(good_write(1), good_write(2)), 0.0)
    batch.bury_suspect("consumers died")
    assert not batch.writes
    assert [letter.identity.sequence for letter in batch.letters if letter.identity] == [1, 2]


def test_the_dead_limit_needs_many_and_nearly_all() -> None:
    limit = DeadLimit()
    limit.note(0, LEAST - 1)
    assert not limit.reached
    limit.note(0, 1)
    assert limit.reached


def test_good_writes_in_the_window_speak_for_the_consumer() -> None:
    limit = DeadLimit()
    limit.note(0, LEAST)
    limit.note(WINDOW, 0)
    assert not limit.reached


def test_a_few_dead_writes_among_many_good_ones_never_stop_a_consumer() -> None:
    limit = DeadLimit()
    for _ in range(1_000):
        limit.note(99, 1)
        assert not limit.reached


@pytest.mark.parametrize("size", [4_096, 65_536, MAX_REQUEST_BYTES])
def test_windows_together_stay_within_the_memory_bound_whatever_the_load(size: int) -> None:
    for count in range(1, 65):
        held = range(count)
        for busy in ([], [0], held):
            found = windows(held, held, busy, dict.fromkeys(held, size))
            assert min(found.values()) >= 1
            assert max(found.values()) <= MAX_PREFETCH
            assert sum(found.values()) * size <= max(PREFETCH_BYTES, count * size)


def test_a_busy_partition_gets_more_and_an_untrusted_one_a_single_message() -> None:
    found = windows(range(8), range(1, 8), [1], {})
    assert found[0] == 1
    assert found[1] > found[2] > 1


def test_small_messages_get_larger_windows() -> None:
    found = windows(range(8), range(8), [], {0: 4_096, 1: 262_144})
    assert found[0] > found[1] > found[2] > 1


def test_sizes_fall_into_few_classes() -> None:
    sizes = (0.0, 1, 4_096, 4_097, 100_000, MAX_REQUEST_BYTES, 9 * MAX_REQUEST_BYTES)
    assert [size_class(size) for size in sizes] == [4_096, 4_096, 4_096, 8_192, 131_072] + [MAX_REQUEST_BYTES] * 2
