"""W&B's files, written by W&B in offline mode."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from tests.importers.reading import find, read_one
from tests.importers.writers import write_wandb
from tracker.v1.resources_pb2 import RunStatus
from tracker_client.importers.records import ReadError


def test_a_run_comes_with_all_that_wandb_keeps_of_it(wandb_folder: Path) -> None:
    read = read_one(wandb_folder)
    assert read.start.name == "my run"
    assert read.start.experiment == "My project"
    assert read.start.tags == ("baseline",)
    assert read.start.metadata["wandb.notes"] == "a note"
    assert {name: read.config[name] for name in ("lr", "model", "late")} == {
        "lr": 0.1,
        "model": {"depth": 4},
        "late": True,
    }
    loss = [*((step * 10, 1 / (step + 1)) for step in range(4)), (40, math.nan)]
    accuracy = [*((step * 10, step / 4) for step in range(4)), (40, math.inf)]
    assert repr(read.series["loss"]) == repr(loss)
    assert repr(read.series["nested/acc"]) == repr(accuracy)
    assert read.ignored["text"] == 4
    assert read.end
    assert read.end.status == RunStatus.RUN_STATUS_COMPLETED
    assert read.end.final_metrics["best"] == 0.5
    assert not read.problems


def test_a_run_that_failed_has_failed(tmp_path: Path) -> None:
    read = read_one(write_wandb(tmp_path, exit_code=3))
    assert read.end
    assert read.end.status == RunStatus.RUN_STATUS_FAILED


def test_a_file_cut_off_at_any_byte_gives_its_whole_records(wandb_folder: Path, tmp_path: Path) -> None:
    whole = next(wandb_folder.rglob("run-*.wandb"))
    data = whole.read_bytes()
    full = read_one(wandb_folder).series["loss"]
    torn = tmp_path / "run-torn.wandb"
    counts: list[int] = []
    for size in range(7, len(data)):
        torn.write_bytes(data[:size])
        try:
            read = read_one(torn)
        except ReadError:
            # Before the run's own record is whole there is no run.
            assert not counts
            continue
        loss = read.series.get("loss", [])
        assert repr(loss) == repr(full[: len(loss)])
        counts.append(len(loss))
    assert counts == sorted(counts)
    assert set(counts) == set(range(6))


def test_a_damaged_record_is_told_of(wandb_folder: Path, tmp_path: Path) -> None:
    data = bytearray(next(wandb_folder.rglob("run-*.wandb")).read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged = tmp_path / "run-damaged.wandb"
    damaged.write_bytes(data)
    read = read_one(damaged)
    assert "damaged" in read.problems[0].what
    assert read.end is None


def test_a_file_with_nothing_but_its_header_is_no_run(wandb_folder: Path, tmp_path: Path) -> None:
    data = next(wandb_folder.rglob("run-*.wandb")).read_bytes()
    (tmp_path / "run-empty.wandb").write_bytes(data[:7])
    with pytest.raises(ReadError, match="has no run"):
        read_one(tmp_path)


def test_something_else_of_that_name_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "run-other.wandb").write_bytes(b"something else")
    with pytest.raises(ReadError, match="does not begin"):
        read_one(tmp_path)


def test_the_files_of_a_resumed_run_are_one_run(wandb_folder: Path, tmp_path: Path) -> None:
    whole = next(wandb_folder.rglob("run-*.wandb"))
    for folder in ("run-20240101_000000-abc123", "run-20240102_000000-abc123"):
        (tmp_path / folder).mkdir()
        shutil.copy(whole, tmp_path / folder / "run-abc123.wandb")
    assert len(read_one(tmp_path).series["loss"]) == 10
    # Also when only one of its folders is named.
    alone, _ = find(tmp_path / "run-20240102_000000-abc123")
    both, _ = find(tmp_path)
    assert [one.source for one in alone] == [one.source for one in both]
