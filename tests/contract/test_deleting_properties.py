"""Deletions, restorations and all other writes, in any order, any number of times: the later of the two decides, and a
restoration gives back all that was ever written."""

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.servers import PostgreSQL
from tests.contract.deliveries import EXPIRED_BEFORE, deliver
from tests.contract.restoring import restored
from tests.contract.store_databases import postgres_store, sqlite_store
from tests.contract.store_state import read_state
from tests.contract.store_strategies import EXPERIMENTS, RUNS, histories, renamed
from tests.contract.store_writes import T, write
from tracker_server.model.typed_json import Json
from tracker_server.model.writes import UpdateExperiment, UpdateRun, Write
from tracker_server.store.store import Store

_numbers = itertools.count()
_thorough = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
_brief = settings(_thorough, max_examples=15)
OPERATORS = ("operator-a-0123456789", "operator-b-0123456789")
Turns = list[tuple[str, int, bool, str]]
"""Run or experiment, stated time, whether it is deleted or restored, and by whom."""
turns: st.SearchStrategy[Turns] = st.lists(
    st.tuples(st.sampled_from([*RUNS, *EXPERIMENTS]), st.integers(T, T + 3), st.booleans(), st.sampled_from(OPERATORS)),
    max_size=8,
)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with sqlite_store(tmp_path_factory.mktemp("deleting"), synced=False) as store:
        yield store


@pytest.fixture(scope="module")
def postgres(postgresql: PostgreSQL) -> Iterator[Store]:
    with postgres_store(postgresql) as store:
        yield store


def turn(sequence: int, scope: str, at: int, deleted: bool, by: str) -> Write:
    """A deletion or a restoration."""
    fields: dict[str, Json] = {"deleted_ms": at if deleted else None}
    of_experiment = scope in EXPERIMENTS
    body = UpdateExperiment(at, fields, {}) if of_experiment else UpdateRun(at, fields, {}, from_outside=True)
    return write(sequence, body, run=scope, writer=by, accepted=at, server_assigned=True)


def check(store: Store, history: list[Write], changes: Turns, seed: int) -> None:
    """Delivers all in some order, sees what is hidden, restores it, and compares with a naive reading."""
    prefix, source = f"{next(_numbers)}-", random.Random(seed)
    all_writes = [*history, *(turn(number, *one) for number, one in enumerate(changes, 1))]
    runs, experiments = [prefix + run for run in RUNS], [prefix + name for name in EXPERIMENTS]
    delivered = deliver(store, [renamed(one, prefix) for one in all_writes], runs, source)
    expected = restored(store, delivered.applied, runs, experiments, delivered.dead, EXPIRED_BEFORE)
    assert read_state(store, runs, experiments) == expected


@_thorough
@given(histories(12), turns, st.integers(0, 2**32))
def test_on_sqlite(sqlite: Store, history: list[Write], changes: Turns, seed: int) -> None:
    check(sqlite, history, changes, seed)


@_brief
@given(histories(12), turns, st.integers(0, 2**32))
def test_on_postgresql(postgres: Store, history: list[Write], changes: Turns, seed: int) -> None:
    check(postgres, history, changes, seed)
