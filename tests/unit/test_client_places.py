"""Which process this is, which attempt it belongs to, how runs are named, and where things are kept."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import time
from pathlib import Path

import pytest

from tests.unit.journals import IDENTITY
from tracker_client.ids import new_run_id, usable_id
from tracker_client.journal.folder import JournalFolder, create_folder, is_locked, list_folders, take_lock
from tracker_client.keepers import file_system_of
from tracker_client.ranks import Place, find_place, shared_attempt
from tracker_client.settings import BadSetting, Mode, Settings, load_settings, with_overrides


@pytest.mark.parametrize(
    ("rank", "environment", "expected"),
    [
        (None, {}, Place()),
        (None, {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "GROUP_RANK": "2"}, Place(3, 8, 1, 2)),
        (
            None,
            {"SLURM_PROCID": "5", "SLURM_NTASKS": "6", "SLURM_LOCALID": "0", "SLURM_NODEID": "4"},
            Place(5, 6, 0, 4),
        ),
        (None, {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, Place(1, 2, 1, 0)),
        (None, {"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0"}, Place(1, 4, 0, 0)),
        (None, {"RANK": "x", "SLURM_PROCID": "2"}, Place(2, 3, 2, 0)),
        (None, {"RANK": "-1"}, Place()),
        (4, {"RANK": "1", "WORLD_SIZE": "2"}, Place(4, 5, 1 - 1 + 4, 0)),
        # All of several processes agree on an attempt, the first too, who cannot know that there are others.
        (0, {}, Place(0, 2, 0, 0)),
    ],
)
def test_places_as_launchers_say_them(rank: int | None, environment: dict[str, str], expected: Place) -> None:
    assert find_place(Settings(rank=rank), environment) == expected


def test_the_ranks_of_a_start_agree_and_the_next_start_is_newer(tmp_path: Path) -> None:
    place = [Place(rank, 4) for rank in range(4)]
    first = {shared_attempt(tmp_path, "run", each, {}) for each in (place[2], place[0], place[3], place[1])}
    second = {shared_attempt(tmp_path, "run", each, {}) for each in place}
    third = {shared_attempt(tmp_path, "run", each, {"SLURM_RESTART_COUNT": "1"}) for each in place}
    assert len(first) == len(second) == len(third) == 1
    assert first.pop() < second.pop() < third.pop()
    assert {shared_attempt(tmp_path, "other", place[0], {})} != second


def test_a_start_is_newer_than_the_one_before_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    attempts = [shared_attempt(tmp_path, "run", Place(0, 2), {}) for _ in range(3)]
    assert attempts == [1_700_000_000_000, 1_700_000_000_001, 1_700_000_000_002]


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"launch": []}', '{"launch": [], "attempt": "x", "ranks": []}'])
def test_a_spoilt_meeting_is_a_new_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "run.json").write_text(text)
    attempt = shared_attempt(tmp_path, "run", Place(0, 2), {})
    assert attempt > 1_600_000_000_000
    assert json.loads((tmp_path / "attempts" / "run.json").read_text())["ranks"] == [0]


def _come(directory: str, rank: int, answers: multiprocessing.SimpleQueue[int]) -> None:
    answers.put(shared_attempt(Path(directory), "run", Place(rank, 16), {}))


def test_many_processes_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(2):
        answers: multiprocessing.SimpleQueue[int] = context.SimpleQueue()
        ranks = [context.Process(target=_come, args=(str(tmp_path), rank, answers)) for rank in range(16)]
        for each in ranks:
            each.start()
        for each in ranks:
            each.join()
        assert len({answers.get() for _ in ranks}) == 1


def test_ids_sort_by_time_and_are_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {new_run_id() for _ in range(2000)}
    assert len(made) == 2000
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-z]{8}", each) for each in made)
    early = new_run_id()
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2200, 1, 1, 0, 0, 0, 0, 1, 0)))
    assert early < new_run_id()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a-B_c.9", "a-B_c.9"),
        ("-fine-", "-fine-"),
        ("my run!", "my-run"),
        ("ünïcode/x", "n-code-x"),
        ("///", ""),
        ("", ""),
        ("x" * 200, "x" * 128),
    ],
)
def test_ids_are_made_usable(text: str, expected: str) -> None:
    assert usable_id(text) == expected


# ---------------------------------------------------------------- settings


def test_settings_come_from_the_environment() -> None:
    assert load_settings({}) == Settings()
    environment = {
        "TRACKER_SERVER": "https://t:1",
        "TRACKER_API_KEY": "k",
        "TRACKER_DIR": "/d",
        "TRACKER_MODE": "Offline",
        "TRACKER_JOURNAL_BYTES": " 5 ",
        "TRACKER_RUN_ID": "r",
        "TRACKER_ATTEMPT": "0",
        "TRACKER_RANK": "2",
    }
    assert load_settings(environment) == Settings("https://t:1", "k", Path("/d"), Mode.OFFLINE, 5, "r", 0, 2)
    assert load_settings(dict.fromkeys(environment, "")) == Settings()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TRACKER_MODE": "of"}, "TRACKER_MODE is 'of'; it must be one of online, offline, disabled"),
        ({"TRACKER_RANK": "-1"}, "TRACKER_RANK is '-1'; it must be a whole number from 0 to 2^63 - 1"),
        (
            {"TRACKER_ATTEMPT": str(2**63)},
            f"TRACKER_ATTEMPT is '{2**63}'; it must be a whole number from 0 to 2^63 - 1",
        ),
        ({"TRACKER_SERVER": "x" * 1001}, "TRACKER_SERVER has 1001 characters; it must be HOST:PORT, 1000 at most"),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(BadSetting, match=f"^{re.escape(message)}$"):
        load_settings(environment)


_NONE = {"server": None, "api_key": None, "directory": None, "mode": None, "attempt": None, "rank": None}


def test_what_init_is_told_takes_the_place_of_the_environment() -> None:
    base = Settings("a:1", "k", Path("/d"), Mode.OFFLINE, 5, "r", 1, 2)
    assert with_overrides(base, **_NONE) == base
    changed = with_overrides(base, server="b:2", api_key="", directory="/e", mode="online", attempt=0, rank=0)
    assert changed == Settings("b:2", "", Path("/e"), Mode.ONLINE, 5, "r", 0, 0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("attempt", -1, "attempt is -1; it must be a whole number from 0 to 2^63 - 1"),
        ("rank", "5", "rank is '5'; it must be a whole number from 0 to 2^63 - 1"),
        ("mode", "no", "mode is 'no'; it must be one of online, offline, disabled"),
        ("mode", 5, "mode is 5; it must be one of online, offline, disabled"),
        ("server", "x" * 1001, "server has 1001 characters; it must be HOST:PORT, 1000 at most"),
    ],
)
def test_a_wrong_argument_is_named(name: str, value: object, message: str) -> None:
    with pytest.raises(BadSetting, match=f"^{re.escape(message)}$"):
        with_overrides(Settings(), **{**_NONE, name: value})  # type: ignore[arg-type]  # that is the point


# ---------------------------------------------------------------- folders and file systems


_MOUNTS = r"""22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:50 / /mnt/team\040share rw shared:5 - nfs4 server:/x rw
31 22 0:51 / /mnt/größe rw - cifs //y rw
32 22 0:52 / /home rw - xfs /dev/sdb rw
33 22 0:53 / /home rw - lustre over rw
nonsense"""


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/tmp/x", "ext4"),
        ("/mnt/team share/run", "nfs4"),
        ("/mnt/team", "ext4"),
        ("/mnt/größe", "cifs"),
        ("/home/me", "lustre"),
    ],
)
def test_the_file_system_of_a_directory(directory: str, expected: str) -> None:
    assert file_system_of(Path(directory), _MOUNTS) == expected


def test_a_journal_is_owned_from_the_moment_that_it_can_be_found(tmp_path: Path) -> None:
    folder, lock = create_folder(tmp_path, IDENTITY)
    (found,) = list_folders(tmp_path)
    assert found.path == folder.path
    assert found.owned()
    assert found.lock() is None
    found.remove()
    assert found.path.exists()
    os.close(lock)
    assert not found.owned()
    found.remove()
    found.remove()
    assert list_folders(tmp_path) == []


def test_lookers_do_not_take_each_other_for_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    lock = take_lock(path)
    assert lock is not None
    assert is_locked(path)
    assert take_lock(path) is None
    os.close(lock)
    assert not is_locked(path)


def test_only_segments_count_as_segments(tmp_path: Path) -> None:
    for name in ("000002.seg", "000010.seg", "²3.seg", "x.seg", "000001.tmp", "status"):
        (tmp_path / name).write_bytes(b"12345")
    assert JournalFolder(tmp_path).segment_numbers() == [2, 10]
    assert JournalFolder(tmp_path).size() == 10
    assert JournalFolder(tmp_path / "none").segment_numbers() == []
