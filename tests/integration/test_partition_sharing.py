"""Partitions among consumers: fair shares, never two holders of one, whoever comes, goes, freezes or loses the database."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import pytest

from deploy.servers import PostgreSQL
from deploy.servers.processes import wait_until
from tests.contract.store_databases import empty, execute, migrated_url, postgres_store, settings_for
from tests.contract.store_writes import points, write
from tracker_server.errors import StoreUnavailable
from tracker_server.store.assignment import PostgresAssignment, WholeAssignment
from tracker_server.store.store import Store, open_store

PARTITIONS = 8
Start = Callable[[str], "Consumer"]


class Consumer:
    """Holds what it is told to hold, and gives up surplus at once."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.assignment = PostgresAssignment(
            url, PARTITIONS, process_name=name, interval_seconds=0.1, timeout_seconds=10
        )
        self.held: frozenset[int] = frozenset()

    def renew(self) -> frozenset[int]:
        wanted = self.assignment.renew()
        self.assignment.release(self.held - wanted)
        self.held = wanted
        return wanted

    def close(self) -> None:
        self.assignment.close()
        self.held = frozenset()


@pytest.fixture
def witness(postgresql: PostgreSQL) -> Iterator[Store]:
    with postgres_store(postgresql) as store:
        yield store


@pytest.fixture
def begin(postgresql: PostgreSQL, witness: Store) -> Iterator[Start]:
    """Makes consumers on the emptied database, and ends them."""
    empty(witness)
    made: list[Consumer] = []

    def make(name: str) -> Consumer:
        made.append(Consumer(migrated_url(postgresql), name))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()


def settle(*consumers: Consumer) -> list[int]:
    """Renews until nothing changes; checks that every partition has exactly one holder. Returns the shares' sizes."""
    before: list[frozenset[int]] = []
    now = [consumer.renew() for consumer in consumers]
    while now != before:
        before, now = now, [consumer.renew() for consumer in consumers]
    assert sorted(partition for held in now for partition in held) == list(range(PARTITIONS))
    return sorted((len(held) for held in now), reverse=True)


def test_partitions_are_shared_fairly_as_consumers_come_and_go(begin: Start) -> None:
    one = begin("one")
    assert one.renew() == frozenset(range(PARTITIONS))
    two = begin("two")
    assert settle(one, two) == [4, 4]
    three = begin("three")
    assert settle(one, two, three) == [3, 3, 2]
    two.close()
    assert settle(one, three) == [4, 4]
    three.close()
    assert settle(one) == [8]


def test_more_consumers_than_partitions_leave_some_without(begin: Start) -> None:
    consumers = [begin(f"consumer {i}") for i in range(10)]
    assert settle(*consumers) == [1] * 8 + [0] * 2


def test_surplus_stays_locked_until_it_is_released(begin: Start) -> None:
    one, two = begin("one"), begin("two")
    everything = one.assignment.renew()
    assert two.renew() == frozenset()
    kept = one.assignment.renew()
    assert len(kept) == 4
    assert two.renew() == frozenset()
    one.assignment.release(everything - kept)
    assert two.renew() == everything - kept


def test_releasing_what_is_not_held_does_no_harm(begin: Start) -> None:
    one = begin("one")
    one.assignment.release([0, 1, 99])
    assert one.renew() == frozenset(range(PARTITIONS))
    one.assignment.release([0, 99])
    assert one.assignment.renew() == frozenset(range(PARTITIONS))


def test_a_frozen_consumer_lapses_loses_its_sessions_and_finds_its_way_back(
    begin: Start, postgresql: PostgreSQL
) -> None:
    frozen, living = begin("frozen"), begin("living")
    store = open_store(settings_for(migrated_url(postgresql)), "frozen")
    try:
        assert settle(frozen, living) == [4, 4]
        # In the middle of a flush when it freezes.
        with store._writer.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
            assert wait_until(lambda: len(living.renew()) == PARTITIONS, seconds=20)
            with pytest.raises(Exception, match=r"terminating connection|closed the connection"):
                connection.exec_driver_sql("SELECT 1")
            connection.invalidate()
        with pytest.raises(StoreUnavailable):
            frozen.assignment.renew()
        frozen.held = frozenset()
        assert settle(frozen, living) == [4, 4]
        assert store.flush([write(1, points([1], [1.0]))]).applied == 1
    finally:
        store.close()


def test_a_consumer_that_renews_does_not_lapse_however_slow_the_others(begin: Start) -> None:
    one, two = begin("one"), begin("two")
    assert settle(one, two) == [4, 4]
    for _ in range(50):
        held = one.held
        assert two.renew()
        assert one.renew() == held


def test_a_lost_session_is_told_and_every_lock_is_lost(begin: Start, witness: Store) -> None:
    one = begin("one")
    one.renew()
    execute(witness, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'one'")
    two = begin("two")
    assert len(two.renew()) == 4
    with pytest.raises(StoreUnavailable):
        one.assignment.renew()
    one.held = frozenset()
    assert settle(one, two) == [4, 4]


def test_a_session_lost_before_a_release_does_no_harm(begin: Start, witness: Store) -> None:
    one = begin("one")
    one.renew()
    execute(witness, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'one'")
    one.assignment.release([0, 1])
    assert one.assignment.renew() == frozenset(range(PARTITIONS))


def test_a_closed_consumer_leaves_at_once(begin: Start, witness: Store) -> None:
    one, two = begin("one"), begin("two")
    one.renew()
    one.close()
    one.close()
    assert two.renew() == frozenset(range(PARTITIONS))
    with witness._reader.connect() as connection:
        assert connection.exec_driver_sql("SELECT consumer_id FROM consumers").scalars().all() == ["two"]


def test_no_partition_ever_has_two_holders(begin: Start) -> None:
    holders: dict[int, str] = {}
    guard = Lock()
    doubled: list[tuple[int, str, str]] = []

    def live(number: int) -> None:
        source = random.Random(number)
        for life in range(2):
            consumer = begin(f"consumer {number} life {life}")
            held: frozenset[int] = frozenset()
            for _ in range(source.randint(5, 15)):
                wanted = consumer.assignment.renew()
                with guard:
                    for partition in wanted - held:
                        if partition in holders:
                            doubled.append((partition, holders[partition], consumer.name))
                        holders[partition] = consumer.name
                surplus = held - wanted
                with guard:
                    for partition in surplus:
                        del holders[partition]
                consumer.assignment.release(surplus)
                held = wanted
            with guard:
                for partition in held:
                    del holders[partition]
            consumer.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live, range(4)))
    assert doubled == []
    assert holders == {}


def test_the_embedded_form_has_everything() -> None:
    whole = WholeAssignment(PARTITIONS)
    assert whole.renew() == frozenset(range(PARTITIONS))
    whole.release([1])
    assert whole.renew() == frozenset(range(PARTITIONS))
    whole.close()
