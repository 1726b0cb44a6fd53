"""`tracker_server backup`: one moment of the embedded database, while it is at work."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.contract.store_databases import sqlite_store
from tests.contract.store_deleting import everything, fill
from tests.contract.store_writes import points, write
from tracker_server.cli import EXIT_FAILED, app


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # It would leave the loggers of the tests that follow with the command's own output, which is closed by then.
    monkeypatch.setattr("tracker_server.cli.set_up_logging", lambda _settings: None)
    monkeypatch.setenv("TRACKER_DATABASE_URL", f"sqlite:///{tmp_path}/tracker.db")
    return tmp_path


def back_up(target: Path) -> tuple[int, str]:
    """Exit code and output."""
    result = CliRunner().invoke(app, ["backup", str(target)])
    return result.exit_code, result.output


def test_the_copy_of_a_database_at_work_answers_as_the_database_did(directory: Path) -> None:
    (directory / "restored").mkdir()
    copy = directory / "restored" / "tracker.db"
    with sqlite_store(directory) as store:
        fill(store)
        before = everything(store)
        code, output = back_up(copy)
        assert (code, output) == (0, f"{copy}: {copy.stat().st_size:,} bytes\n")
        store.flush([write(9, points([9], [9.0]))])
    assert sorted(path.name for path in copy.parent.iterdir()) == ["tracker.db"]
    with sqlite_store(copy.parent) as store:
        assert everything(store) == before
        store.flush([write(9, points([9], [9.0]))])
        assert everything(store) != before


def test_it_is_one_moment_however_much_is_written_meanwhile(directory: Path) -> None:
    stop = threading.Event()
    with sqlite_store(directory) as store:
        store.flush([write(1, points([1], [0.5]))])

        def keep_on() -> None:
            sequence = 1
            while not stop.is_set():
                sequence += 1
                store.flush([write(sequence, points([sequence], [0.5], name=name)) for name in ("m",)])

        writer = threading.Thread(target=keep_on)
        writer.start()
        try:
            codes = [back_up(directory / f"copy-{number}.db") for number in range(3)]
        finally:
            stop.set()
            writer.join()
    assert [code for code, _ in codes] == [0, 0, 0]
    for number in range(3):
        with closing(sqlite3.connect(directory / f"copy-{number}.db")) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            (count,) = copy.execute("SELECT count FROM series").fetchone()
            assert copy.execute("SELECT sum(count) FROM chunk_tail").fetchone() == (count,)
            assert copy.execute("SELECT applied FROM writers").fetchone() == ("1" if count == 1 else f"1-{count}",)


def test_nothing_is_overwritten(directory: Path) -> None:
    with sqlite_store(directory) as store:
        fill(store)
    (directory / "old.db").write_text("precious")
    code, output = back_up(directory / "old.db")
    assert (code, "exists; name a file that does not" in output) == (EXIT_FAILED, True)
    assert (directory / "old.db").read_text() == "precious"


def test_what_goes_wrong_is_told_and_leaves_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = back_up(directory / "copy.db")
    assert (code, "there is no database" in output) == (EXIT_FAILED, True)
    with sqlite_store(directory) as store:
        fill(store)
    code, output = back_up(directory / "missing" / "copy.db")
    assert (code, "could not be copied" in output) == (EXIT_FAILED, True)
    monkeypatch.setenv("TRACKER_DATABASE_URL", "postgresql://localhost/tracker")
    code, output = back_up(directory / "copy.db")
    assert (code, "pg_dump" in output) == (EXIT_FAILED, True)
    assert not (directory / "copy.db").exists()
