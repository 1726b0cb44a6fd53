"""`tracker_server purge`: by hand, all that is due, or one run or experiment at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.contract.store_databases import sqlite_store
from tests.contract.store_deleting import delete_experiment, delete_run, fill, listed
from tests.contract.store_purging import left_of
from tests.contract.store_writes import RUN
from tracker_server.cli import EXIT_FAILED, app
from tracker_server.model.writes import Write
from tracker_server.store.store import now_ms

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with two runs in experiment e."""
    # It would leave the loggers of the tests that follow with the command's own output, which is closed by then.
    monkeypatch.setattr("tracker_server.cli.set_up_logging", lambda _settings: None)
    monkeypatch.setenv("TRACKER_DATABASE_URL", f"sqlite:///{tmp_path}/tracker.db")
    with sqlite_store(tmp_path) as store:
        fill(store)
    return tmp_path


def purge(*arguments: str) -> tuple[int, str]:
    """Exit code and output."""
    result = CliRunner().invoke(app, ["purge", *arguments])
    return result.exit_code, result.output


def change(directory: Path, *writes: Write) -> None:
    with sqlite_store(directory) as store:
        store.flush(list(writes))


def test_what_is_due_is_purged(directory: Path) -> None:
    change(directory, delete_run(1), delete_run(1, run="other", at=now_ms()))
    assert purge() == (
        0,
        "1 runs and 0 experiments purged, 2 points removed; by retention 0 runs deleted, and 0 without their points\n",
    )
    with sqlite_store(directory) as store:
        assert (left_of(store), left_of(store, "other") != {}) == ({}, True)


def test_a_deleted_run_is_purged_before_its_time(directory: Path) -> None:
    change(directory, delete_run(1, at=now_ms()))
    code, output = purge("--now", RUN)
    assert (code, output.startswith("1 runs and 0 experiments purged, 2 points")) == (0, True)
    code, output = purge("--now", RUN)
    assert (code, "is purged" in output) == (EXIT_FAILED, True)


def test_a_deleted_experiment_is_purged_with_its_runs_before_its_time(directory: Path) -> None:
    change(directory, delete_experiment(1, at=now_ms()))
    code, output = purge("--experiment", "e")
    assert (code, output.startswith("2 runs and 1 experiments purged, 4 points")) == (0, True)
    code, output = purge("--experiment", "e")
    assert (code, "no experiment 'e'" in output) == (EXIT_FAILED, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--now", RUN), "run 'run' is not deleted; DeleteRun deletes it"),
        (("--now", "nobody"), "no run 'nobody'"),
        (("--experiment", "e"), "experiment 'e' is not deleted; DeleteExperiment deletes it"),
        (("--experiment", "nothing"), "no experiment 'nothing'"),
        (("--now", RUN, "--experiment", "e"), "give --now or --experiment, not both"),
    ],
)
def test_what_is_not_deleted_is_not_purged(directory: Path, arguments: tuple[str, ...], said: str) -> None:
    code, output = purge(*arguments)
    assert (code, said in output) == (EXIT_FAILED, True)
    with sqlite_store(directory) as store:
        assert len(listed(store)) == 2


def test_a_database_in_use_is_refused(directory: Path) -> None:
    with sqlite_store(directory):
        code, output = purge()
    assert (code, "in use by another tracker_server" in output) == (EXIT_FAILED, True)
