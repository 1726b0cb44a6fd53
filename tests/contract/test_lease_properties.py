"""Whatever becomes of servers, runs and consumers: a run that lives is never lost, one that is silent is lost since the
end of its lease, and what a broker delivers again changes nothing."""

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import text

from deploy.servers import PostgreSQL
from tests.contract.deliveries import failing
from tests.contract.lease_world import LEASE, World
from tests.contract.reference import from_outside
from tests.contract.restoring import restored
from tests.contract.store_databases import execute, migrated_url, postgres_store, settings_for, sqlite_store
from tests.contract.store_state import read_state
from tracker_server.model.status import Status
from tracker_server.model.writes import LeaseMarker, Write
from tracker_server.partitions import partition_of
from tracker_server.store.store import Store, open_store

_numbers = itertools.count()
_thorough = settings(max_examples=15, suppress_health_check=list(HealthCheck))
_brief = settings(_thorough, max_examples=8)
RUNS = 4


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Store]]:
    """One consumer, as the embedded form has."""
    with sqlite_store(tmp_path_factory.mktemp("leases"), synced=False) as store:
        yield [store]


@pytest.fixture(scope="module")
def postgres(postgresql: PostgreSQL) -> Iterator[Sequence[Store]]:
    """Two consumers, of which one takes over when the other dies."""
    with postgres_store(postgresql) as store:
        other = open_store(settings_for(migrated_url(postgresql)), "other")
        try:
            yield [store, other]
        finally:
            other.close()


class Delivery:
    """Delivers the queues of a world: each in its order, and again from what was not acknowledged when a consumer dies."""

    def __init__(self, consumers: Sequence[Store], world: World, dice: random.Random) -> None:
        self._consumers = consumers
        self._store = consumers[0]
        self._world = world
        self._dice = dice
        self._next = dict.fromkeys(world.queues, 0)
        self._acknowledged = dict(self._next)
        self._last_sign: dict[tuple[str, int], int] = {}
        self._first: dict[tuple[str, int], int] = {}
        """When the first write of each run and attempt was accepted."""
        self._marked = dict(self._next)
        """The time of the latest marker of each partition."""
        self._sizes = dice.choice([(0, 1, 3, 8), (0, 5, 20, 60)])
        self.losses: set[tuple[str, int]] = set()
        """Runs and attempts that were lost at some time."""

    def run(self) -> None:
        """Until everything is acknowledged. Fails as soon as a loss is noted that is none."""
        while any(self._acknowledged[number] < len(queue) for number, queue in self._world.queues.items()):
            taken = {number: self._dice.choice(self._sizes) for number in self._next}
            batch = []
            for number, count in taken.items():
                begin = self._next[number]
                batch += self._world.queues[number][begin : begin + count]
                self._next[number] = min(begin + count, len(self._world.queues[number]))
            if self._dice.random() < 0.1:
                with failing(self._store, self._dice.randint(1, 6)) as died:
                    self._store.flush(batch)
                if died:
                    self._die()
                    continue
            else:
                self._store.flush(batch)
            self._look(batch)
            if self._dice.random() < 0.6:
                self._acknowledged = dict(self._next)
            elif self._dice.random() < 0.2:
                self._die()

    def _die(self) -> None:
        self._store = self._dice.choice(self._consumers)
        self._next = dict(self._acknowledged)

    def _look(self, batch: Sequence[Write]) -> None:
        for one in batch:
            if isinstance(one.body, LeaseMarker):
                number = one.body.partition
                self._marked[number] = max(self._marked[number], one.accepted_ms)
            elif not from_outside(one):
                whose = (one.scope_id, one.attempt)
                self._first[whose] = min(self._first.get(whose, one.accepted_ms), one.accepted_ms)
                if not one.replay:
                    self._last_sign[whose] = max(self._last_sign.get(whose, 0), one.accepted_ms // 10_000 * 10_000)
        alive = {(process.run, process.attempt) for process in self._world.processes if process.steady}
        found = lost_now(self._store, self._world.runs)
        assert not found.keys() & alive
        for whose, since in found.items():
            sign = self._last_sign.get(whose)
            assert not sign or since == sign + LEASE.length_ms
            marked = self._marked[partition_of(whose[0], self._store.partitions)]
            assert (sign or self._first[whose]) + LEASE.length_ms + LEASE.slack_ms < marked
        self.losses |= found.keys()


def lost_now(store: Store, runs: Sequence[str]) -> dict[tuple[str, int], int]:
    """Since when the attempts of these runs are lost that are."""
    query = "SELECT run_id, attempt, lost_ms FROM attempts WHERE status = 1 AND lost_ms IS NOT NULL"
    with store._writer.begin() as connection:
        return {(row[0], row[1]): row[2] for row in connection.execute(text(query)) if row[0] in runs}


def check(consumers: Sequence[Store], seed: int) -> None:
    """Delivers what a world makes, and compares the end with a naive reading and with who lives."""
    store, dice, number = consumers[0], random.Random(seed), next(_numbers)
    note(f"as world {number}")
    # The servers of another world, whose clock stood elsewhere, were never heard of.
    execute(store, "DELETE FROM lease_markers")
    world = World([f"w{number}-{run}" for run in range(RUNS)], store.partitions, dice)
    world.go_on()
    Delivery(consumers, world, dice).run()
    writes = [one for queue in world.queues.values() for one in queue if not isinstance(one.body, LeaseMarker)]
    expected = restored(store, writes, world.runs, [], [], world.expired_before)
    assert read_state(store, world.runs, []) == expected
    attempts = {
        (run, attempt["attempt"]): attempt
        for run, state in expected["runs"].items()
        for attempt in (state["attempts"] if state else ())
    }
    for process in world.processes:
        attempt = attempts.get((process.run, process.attempt))
        if attempt is not None and attempt["ended_ms"] is None:
            assert attempt["status"] == (Status.LOST if process.gone else Status.RUNNING)


@_thorough
@given(st.integers(0, 2**32))
def test_on_sqlite(sqlite: Sequence[Store], seed: int) -> None:
    check(sqlite, seed)


@_brief
@given(st.integers(0, 2**32))
def test_on_postgresql(postgres: Sequence[Store], seed: int) -> None:
    check(postgres, seed)
