"""Hugging Face's trainer_state.json, in the form that Trainer writes (Trainer itself would need PyTorch)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.importers.reading import find, read_all, read_one
from tracker_client.importers.records import ReadError


def write_state(folder: Path, steps: int, *, scale: float = 1.0, first: float = math.nan) -> Path:
    """A state as of a step."""
    history: list[dict[str, object]] = [
        {"epoch": step / 10, "grad_norm": first, "loss": scale / step, "learning_rate": 1e-4, "step": step}
        for step in range(1, steps + 1)
    ]
    history.append({"eval_loss": scale, "eta": "1h", "step": steps}) if steps == 30 else None
    folder.mkdir(parents=True, exist_ok=True)
    state = {"best_metric": None, "global_step": steps, "max_steps": 30, "log_history": history, "train_batch_size": 8}
    path = folder / "trainer_state.json"
    path.write_text(json.dumps(state, indent=2))
    return path


def test_every_number_of_every_entry_is_a_point(tmp_path: Path) -> None:
    write_state(tmp_path / "output", 30)
    read = read_one(tmp_path)
    assert read.series["loss"] == [(step, 1 / step) for step in range(1, 31)]
    assert all(math.isnan(value) for _, value in read.series["grad_norm"])
    assert len(read.series["grad_norm"]) == 30
    assert read.series["eval_loss"] == [(30, 1.0)]
    assert set(read.series) == {"epoch", "grad_norm", "loss", "learning_rate", "eval_loss"}
    assert read.ignored == {"eta": 1}
    assert read.config == {"max_steps": 30, "train_batch_size": 8}
    assert read.start.metadata["trainer.global_step"] == "30"


@pytest.mark.parametrize("given", ["", "output", "output/checkpoint-10"])
def test_checkpoints_of_one_run_are_one_run_as_long_as_its_longest(tmp_path: Path, given: str) -> None:
    for steps in (10, 30, 20):
        write_state(tmp_path / "output" / f"checkpoint-{steps}", steps)
    read = read_one(tmp_path / given)
    assert len(read.series["loss"]) == 30
    assert read.source.key.endswith("output")


def test_a_checkpoint_of_another_training_is_another_run(tmp_path: Path) -> None:
    write_state(tmp_path / "output" / "checkpoint-10", 10, scale=2.0)
    write_state(tmp_path / "output" / "checkpoint-20", 20)
    assert sorted(len(read.series["loss"]) for read in read_all(tmp_path)) == [10, 20]


def test_a_broken_checkpoint_is_named_and_the_others_count(tmp_path: Path) -> None:
    write_state(tmp_path / "checkpoint-10", 10)
    broken = write_state(tmp_path / "checkpoint-20", 20)
    broken.write_text(broken.read_text()[:-40])
    found, problems = find(tmp_path)
    assert [one.source.files[0].parent.name for one in found] == ["checkpoint-10"]
    assert [problem.path for problem in problems] == [str(broken)]


def test_a_state_of_another_name_is_one_when_it_is_named(tmp_path: Path) -> None:
    other = tmp_path / "copy of a state.json"
    write_state(tmp_path / "output", 5).rename(other)
    assert len(read_one(other).series["loss"]) == 5
    assert not find(tmp_path / "output")[0]


def test_entries_without_a_step_are_told_of(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": [{"loss": 1.0}, 7, {"loss": 0.5, "step": 3}]}))
    read = read_one(path)
    assert read.series == {"loss": [(3, 0.5)]}
    assert [problem.where for problem in read.problems] == ["log_history[0]", "log_history[1]"]


def test_a_state_that_was_deleted_meanwhile_cannot_be_read(tmp_path: Path) -> None:
    path = write_state(tmp_path, 5)
    ((found,), _) = find(tmp_path)
    path.write_text("{}")
    with pytest.raises(ReadError, match="log_history"):
        list(found.reader.read(found.source))
