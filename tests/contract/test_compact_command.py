"""`tracker_server compact`: by hand, for one run or for all."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.contract.small_chunks import chunk_counts
from tests.contract.store_compaction import log_singly
from tests.contract.store_databases import sqlite_store
from tests.contract.store_writes import RUN, complete, points, write
from tracker_server.cli import EXIT_FAILED, app


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with a run that has ended and one that has not, of five small chunks each."""
    # It would leave the loggers of the tests that follow with the command's own output, which is closed by then.
    monkeypatch.setattr("tracker_server.cli.set_up_logging", lambda _settings: None)
    monkeypatch.setenv("TRACKER_DATABASE_URL", f"sqlite:///{tmp_path}/tracker.db")
    with sqlite_store(tmp_path) as store:
        log_singly(store, 5)
        for sequence in range(1, 6):
            store.flush([write(sequence, points([sequence], [0.5]), run="ended")])
        store.flush([write(6, complete(), run="ended")])
    return tmp_path


def test_all_runs_are_compacted(directory: Path) -> None:
    result = CliRunner().invoke(app, ["compact"])
    assert (result.exit_code, result.output) == (0, "10 small chunks became 2, with 10 points\n")
    with sqlite_store(directory) as store:
        assert [chunk_counts(store, "chunk_tail", run) for run in (RUN, "ended")] == [[5], []]
        assert chunk_counts(store, "chunks", "ended") == [5]
    assert CliRunner().invoke(app, ["compact"]).output == "0 small chunks became 0, with 0 points\n"


def test_one_run_is_compacted_and_no_other(directory: Path) -> None:
    assert CliRunner().invoke(app, ["compact", "--run", "ended"]).output == "5 small chunks became 1, with 5 points\n"
    with sqlite_store(directory) as store:
        assert chunk_counts(store, "chunk_tail", RUN) == [1] * 5


@pytest.mark.usefixtures("directory")
def test_an_unknown_run_is_named() -> None:
    result = CliRunner().invoke(app, ["compact", "--run", "nobody"])
    assert result.exit_code == EXIT_FAILED
    assert "nobody" in result.output


def test_a_database_in_use_is_refused(directory: Path) -> None:
    with sqlite_store(directory):
        result = CliRunner().invoke(app, ["compact"])
    assert result.exit_code == EXIT_FAILED
    assert "in use by another tracker_server" in result.output
