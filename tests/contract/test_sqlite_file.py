"""The embedded database: one process, one file, whatever its name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.store_databases import settings_for, sqlite_store
from tests.contract.store_state import read_all
from tests.contract.store_writes import RUN, T, points, write
from tracker_server.errors import BadSetting
from tracker_server.store.store import open_store

_OPEN_AND_SAY = """
import sys
from tests.contract.store_databases import settings_for
from tracker_server.errors import BadSetting
from tracker_server.store.store import open_store
try:
    store = open_store(settings_for(sys.argv[1]), "another")
except BadSetting as error:
    print(error)
else:
    store.close()
    print("opened")
"""


def open_in_another_process(url: str) -> str:
    """What a second process says that opens the same file."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", _OPEN_AND_SAY, url]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_second_process_is_refused_and_told_who_has_the_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tracker.db"
    with sqlite_store(tmp_path) as store:
        said = open_in_another_process(url)
        assert f"in use by another tracker_server (process {os.getpid()})" in said
        assert "TRACKER_DATABASE_URL" in said
        store.flush([write(1, points([1], [1.0]))])
    assert open_in_another_process(url) == "opened\n"


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with sqlite_store(tmp_path), pytest.raises(BadSetting, match="in use by another"):
        open_store(settings_for(f"sqlite:///{tmp_path}/tracker.db"), "again")


def test_what_was_flushed_is_there_after_closing_twice(tmp_path: Path) -> None:
    with sqlite_store(tmp_path) as store:
        store.flush([write(1, points([1], [1.0]))])
        store.close()
    with sqlite_store(tmp_path) as store:
        assert read_all(store, RUN, ["m"])["m"] == [(1, T, "1.0")]
        assert store.flush([write(1, points([1], [1.0]))]).duplicates == 1


def test_acknowledged_means_synced(tmp_path: Path) -> None:
    with sqlite_store(tmp_path) as store, store._writer.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2


@pytest.mark.parametrize("name", ["a b", "a%20b", "a#b", "ü𝄞", "a'b", "a&b=c", "a+b", "a?b"])
def test_a_path_of_any_characters_is_one_file(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    with sqlite_store(directory) as store:
        store.flush([write(1, points([1], [1.0]))])
        assert store.read_run(RUN, "", 1).metrics[0].totals.count == 1
    assert {path.name for path in directory.iterdir()} == {"tracker.db", "tracker.db.lock"}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_a_database_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(BadSetting, match="it needs a file"):
        open_store(settings_for(url), "test")


def test_a_place_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(BadSetting, match="cannot open"):
        open_store(settings_for(f"sqlite:///{blocked}/tracker.db"), "test")
