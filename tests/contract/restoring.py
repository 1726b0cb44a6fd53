"""What was deleted last is hidden, and just that; and all of it, restored, for whoever compares everything."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from tests.contract.reference import expected_state
from tracker_server.errors import ExperimentNotFound, RunNotFound
from tracker_server.limits import MAX_TIME_MS
from tracker_server.model.writes import UpdateExperiment, UpdateRun, Write
from tracker_server.store.ledger import DeadWrite
from tracker_server.store.store import Store

_RESTORER = "ÿ-restorer-00000000"
"""Behind all other writers of the tests, so that its changes win at equal times."""


def restored(
    store: Store,
    applied: Iterable[Write],
    runs: Iterable[str],
    experiments: Iterable[str],
    dead: Iterable[DeadWrite],
    expired_before: int | None = None,
) -> dict[str, Any]:
    """Sees what is hidden after these writes, restores it, and returns the state that is expected then."""
    applied, runs, experiments, dead = list(applied), list(runs), list(experiments), list(dead)
    expected = expected_state(applied, runs, experiments, dead, expired_before)
    check_hidden(store, expected)
    last = restorations(expected)
    if last:
        store.flush(last)
    return expected_state([*applied, *last], runs, experiments, dead, expired_before)


def check_hidden(store: Store, expected: Mapping[str, Any]) -> None:
    """What is deleted, by itself or with its experiment, is hidden, and nothing else."""
    gone = {name for name, state in expected["experiments"].items() if state and _is_deleted(state["experiment"])}
    shown = set()
    for run_id, state in expected["runs"].items():
        hidden = state is None or _is_deleted(state["run"]) or state["run"]["experiment_id"] in gone
        if hidden:
            with pytest.raises(RunNotFound):
                store.read_run(run_id, "", 1)
        else:
            assert store.read_run(run_id, "", 1).run.run_id == run_id
        if not hidden:
            shown.add(run_id)
    for name, state in expected["experiments"].items():
        if name in gone or state is None:
            with pytest.raises(ExperimentNotFound):
                store.summarize(name, "", 1)
        else:
            of_it = {run_id for run_id in shown if expected["runs"][run_id]["run"]["experiment_id"] == name}
            summary = store.summarize(name, "", 1)
            assert {run.run_id for run in summary.newest_runs} == of_it
            assert summary.experiment.run_count == sum(count for _, count in summary.run_counts) == len(of_it)


def restorations(expected: Mapping[str, Any]) -> list[Write]:
    """Restores whatever is deleted, later than everything else."""
    fields = {"deleted_ms": None}
    made = [
        _write(run_id, UpdateRun(MAX_TIME_MS, fields, {}, from_outside=True))
        for run_id, state in expected["runs"].items()
        if state and _is_deleted(state["run"])
    ]
    made += [
        _write(name, UpdateExperiment(MAX_TIME_MS, fields, {}))
        for name, state in expected["experiments"].items()
        if state and _is_deleted(state["experiment"])
    ]
    return made


def _write(scope_id: str, body: UpdateRun | UpdateExperiment) -> Write:
    return Write(scope_id, _RESTORER, 1, 0, MAX_TIME_MS, replay=False, server_assigned=True, body=body)


def _is_deleted(record: Mapping[str, Any]) -> bool:
    return record["deleted_ms"] is not None
