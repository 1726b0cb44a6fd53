"""The same writes, in any order, any number of times, in any flushes, give the same state: that of a naive reading of
the rules, whatever consumers do and suffer meanwhile."""

import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from deploy.servers import PostgreSQL
from tests.contract.deliveries import EXPIRED_BEFORE, deliver, refresh_all
from tests.contract.reference import expected_state
from tests.contract.restoring import restored
from tests.contract.store_databases import postgres_store, sqlite_store
from tests.contract.store_state import Near, read_state
from tests.contract.store_strategies import EXPERIMENTS, RUNS, histories, renamed
from tests.contract.store_writes import T, points, write
from tracker_server.model.writes import LogPoints, Write
from tracker_server.store.store import Store

_numbers = itertools.count()
_thorough = settings(max_examples=100, suppress_health_check=list(HealthCheck))
_brief = settings(_thorough, max_examples=35)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with sqlite_store(tmp_path_factory.mktemp("properties"), synced=False) as store:
        yield store


@pytest.fixture(scope="module")
def postgres(postgresql: PostgreSQL) -> Iterator[Store]:
    with postgres_store(postgresql) as store:
        yield store


def check(store: Store, history: list[Write], seed: int) -> None:
    """Delivers the writes twice in two orders, to two sets of runs, and compares both with the naive reading."""
    source = random.Random(seed)
    for _ in range(2):
        prefix = f"{next(_numbers)}-"
        note(f"as {prefix}")
        writes = [renamed(one, prefix) for one in history]
        runs, experiments = [prefix + run for run in RUNS], [prefix + name for name in EXPERIMENTS]
        delivered = deliver(store, writes, runs, source)
        expected = restored(store, delivered.applied, runs, experiments, delivered.dead, EXPIRED_BEFORE)
        assert read_state(store, runs, experiments) == expected
        if refresh_all(store, runs):
            assert read_state(store, runs, experiments) == expected


@_thorough
@given(histories(), st.integers(0, 2**32))
def test_sqlite_gives_the_state_of_a_naive_reading_in_any_order(sqlite: Store, history: list[Write], seed: int) -> None:
    check(sqlite, history, seed)


@_brief
@given(histories(), st.integers(0, 2**32))
def test_postgresql_gives_the_state_of_a_naive_reading_in_any_order(
    postgres: Store, history: list[Write], seed: int
) -> None:
    check(postgres, history, seed)


def some_points(source: random.Random) -> LogPoints:
    """Up to 30 points on few steps."""
    count = source.randint(1, 30)
    steps = [source.randint(-5, 40) for _ in range(count)]
    values = [source.choice([source.random(), math.nan, 1e308]) for _ in range(count)]
    return points(steps, values, times=[T + source.randint(0, 1) for _ in range(count)])


@pytest.mark.parametrize("seed", range(3))
def test_many_writes_in_many_flushes_give_the_state_of_a_naive_reading(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    history = [
        write(
            sequence,
            some_points(source),
            run=source.choice(RUNS),
            writer=source.choice(["x-writer-0000000000", "y-writer-0000000000"]),
            attempt=source.choice([0, 1, 1, 1, 2, 2, 3]),
        )
        for sequence in range(1, 150)
    ]
    with sqlite_store(tmp_path) as store:
        delivered = deliver(store, history, RUNS, source)
        expected = expected_state(delivered.applied, RUNS, [], delivered.dead, EXPIRED_BEFORE)
        assert read_state(store, RUNS, []) == expected
        refresh_all(store, RUNS)
        assert read_state(store, RUNS, []) == expected


def test_the_comparison_sees_what_differs() -> None:
    assert Near(1.0, 1.0) == Near(1.0 + 1e-12, 1.0)
    assert Near(1.0, 1.0) != Near(1.0 + 1e-6, 1.0)
    assert Near(math.inf, 1.0) != Near(1.0, 1.0)
    assert Near(math.nan, 1.0) != Near(math.nan, 1.0)
