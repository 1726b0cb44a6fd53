"""Deletions, restorations and all other writes, in any order, any number of times: the later of the two decides, and a
restoration gives back all that was ever written."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.servers import PostgreSQL
from tests.contract.reference import expected_state
from tests.contract.store_databases import postgres_store, sqlite_store
from tests.contract.store_state import read_run, read_state
from tests.contract.store_strategies import EXPERIMENTS, RUNS, histories, renamed
from tests.contract.store_writes import T, write
from tests.contract.test_store_properties import deliver
from tracker_server.errors import ExperimentNotFound
from tracker_server.model.writes import UpdateExperiment, UpdateRun, Write
from tracker_server.store.store import Store

_numbers = itertools.count()
_thorough = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
_brief = settings(_thorough, max_examples=15)
OPERATORS = ("operator-a-0123456789", "operator-b-0123456789")
LAST = T + 1_000_000
Turns = list[tuple[str, int, bool, str]]
"""Run or experiment, stated time, whether it is deleted or restored, and by whom."""
turns: st.SearchStrategy[Turns] = st.lists(
    st.tuples(st.sampled_from([*RUNS, *EXPERIMENTS]), st.integers(T, T + 3), st.booleans(), st.sampled_from(OPERATORS)),
    max_size=8,
)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with sqlite_store(tmp_path_factory.mktemp("deleting")) as store:
        with store._writer.connect() as connection:
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("PRAGMA synchronous=OFF")
            connection.exec_driver_sql("BEGIN")
        yield store


@pytest.fixture(scope="module")
def postgres(postgresql: PostgreSQL) -> Iterator[Store]:
    with postgres_store(postgresql) as store:
        yield store


def turn(sequence: int, scope: str, at: int, deleted: bool, by: str) -> Write:
    """A deletion or a restoration. Accepted last of all, so that it makes nothing older than it was."""
    fields: dict[str, Any] = {"deleted_ms": at if deleted else None}
    body: UpdateRun | UpdateExperiment = UpdateRun(at, fields, {}, from_outside=True)
    if scope in EXPERIMENTS:
        body = UpdateExperiment(at, fields, {})
    return write(sequence, body, run=scope, writer=by, accepted=253_402_300_799_999, server_assigned=True)


def hidden(changes: list[Write], scope: str) -> bool:
    """Whether the latest change of a run or an experiment is a deletion."""
    own = [change for change in changes if change.scope_id == scope]
    last = max(own, key=lambda change: change.key(_stated(change)), default=None)
    return last is not None and _body(last).fields["deleted_ms"] is not None


def _stated(change: Write) -> int:
    return _body(change).changed_ms


def _body(change: Write) -> UpdateRun | UpdateExperiment:
    assert isinstance(change.body, UpdateRun | UpdateExperiment)
    return change.body


def check(store: Store, history: list[Write], wanted: Turns, seed: int) -> None:
    """Delivers all in some order, looks at what is hidden, restores everything, and compares with a naive reading of the
    other writes."""
    prefix = f"{next(_numbers)}-"
    writes = [renamed(one, prefix) for one in history]
    runs, experiments = [prefix + run for run in RUNS], [prefix + name for name in EXPERIMENTS]
    expected = expected_state(writes, runs, experiments)
    there = {run for run in runs if expected["runs"][run]} | {e for e in experiments if expected["experiments"][e]}
    changes = [renamed(turn(number, *one), prefix) for number, one in enumerate(wanted, 1) if prefix + one[0] in there]
    deliver(store, [*writes, *changes], random.Random(seed))
    for run in runs:
        experiment = expected["runs"][run]["run"]["experiment_id"] if expected["runs"][run] else ""
        gone = run not in there or hidden(changes, run) or hidden(changes, experiment)
        assert (read_run(store, run) is None) is gone
    for name in experiments:
        if hidden(changes, name) or name not in there:
            with pytest.raises(ExperimentNotFound):
                store.summarize(name, "", 1)
        else:
            listed = {run.run_id for run in store.summarize(name, "", 1).newest_runs}
            kept = {run for run in runs if expected["runs"][run] and not hidden(changes, run)}
            assert listed == {run for run in kept if expected["runs"][run]["run"]["experiment_id"] == name}
    last = [renamed(turn(99, scope.removeprefix(prefix), LAST, False, OPERATORS[0]), prefix) for scope in sorted(there)]
    deliver(store, last, random.Random(seed))
    assert read_state(store, runs, experiments) == expected


@_thorough
@given(histories(12), turns, st.integers(0, 2**32))
def test_on_sqlite(sqlite: Store, history: list[Write], wanted: Turns, seed: int) -> None:
    check(sqlite, history, wanted, seed)


@_brief
@given(histories(12), turns, st.integers(0, 2**32))
def test_on_postgresql(postgres: Store, history: list[Write], wanted: Turns, seed: int) -> None:
    check(postgres, history, wanted, seed)
