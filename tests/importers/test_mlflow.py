"""MLflow's file store, written by MLflow."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from tests.importers.reading import Read, find, read_all, read_one
from tests.importers.stub_client import StubClient
from tracker.v1.resources_pb2 import RunStatus
from tracker_client.importers import Outcome, import_paths
from tracker_client.importers.mlflow import typed


@pytest.fixture(scope="module")
def runs(mlruns: Path) -> dict[str, Read]:
    """By name."""
    return {read.source.name: read for read in read_all(mlruns)}


def test_a_run_comes_with_all_that_mlflow_keeps_of_it(runs: dict[str, Read]) -> None:
    read = runs["first run"]
    assert read.start.experiment == "my experiment"
    assert read.source.run_id == read.source.path.name
    assert read.start.started_ms == 1_700_000_000_000
    assert read.start.metadata["team"] == "vision"
    assert read.config == {"lr": 0.001, "model/depth": 4, "zip": "007"}
    assert read.series["train/loss"] == [(step, 1 / (step + 1)) for step in range(5)]
    assert read.times_ms["train/loss"] == [1_700_000_001_000 + step for step in range(5)]
    assert repr(read.series["average f_hat"]) == repr([(0, value) for value in (0.1, 0.2, math.nan, math.inf)])
    assert read.end
    assert (read.end.status, read.end.ended_ms) == (RunStatus.RUN_STATUS_FAILED, 1_700_000_009_000)


def test_a_run_that_has_not_ended_stays_open(runs: dict[str, Read]) -> None:
    assert runs["still running"].end is None


def test_deleted_runs_are_left_out_and_named(mlruns: Path) -> None:
    found, problems = find(mlruns)
    assert {one.source.name for one in found} == {"first run", "still running"}
    assert ["deleted in MLflow" in problem.what for problem in problems] == [True]


def test_the_id_of_a_run_does_not_depend_on_where_it_lies(mlruns: Path, tmp_path: Path) -> None:
    shutil.copytree(mlruns, tmp_path / "elsewhere")
    before, _ = find(mlruns)
    after, _ = find(tmp_path / "elsewhere")
    assert [one.source.key for one in before] == [one.source.key for one in after]


def test_a_second_copy_of_a_run_is_told_and_left_out(mlruns: Path, tmp_path: Path) -> None:
    shutil.copytree(mlruns, tmp_path / "elsewhere")
    found, problems = find(mlruns, tmp_path / "elsewhere")
    assert len(found) == 2
    assert sum("another copy" in problem.what for problem in problems) == 2


def test_a_broken_line_costs_only_itself(mlruns: Path, tmp_path: Path) -> None:
    (first,) = (one.source for one in find(mlruns)[0] if one.source.name == "first run")
    shutil.copytree(first.path.parent, tmp_path / "experiment")
    metric = tmp_path / "experiment" / first.path.name / "metrics" / "train" / "loss"
    metric.write_text("1 0.5 0\nnonsense\n2 0.25\n3 0.125 7 data digest\n")
    read = read_one(tmp_path / "experiment" / first.path.name)
    assert read.series["train/loss"] == [(0, 0.5), (0, 0.25), (7, 0.125)]
    assert [(problem.path, problem.where) for problem in read.problems] == [(str(metric), "line 2")]


def test_tags_that_no_server_takes_are_told_of_and_the_run_goes_in(
    client: StubClient, mlruns: Path, tmp_path: Path
) -> None:
    (first,) = (one.source for one in find(mlruns)[0] if one.source.name == "first run")
    run = tmp_path / "run"
    shutil.copytree(first.path, run)
    meta = (run / "meta.yaml").read_text()
    (run / "meta.yaml").write_text(meta.replace(first.run_id, "f" * 32))
    for number in range(20):
        (run / "tags" / f"model.{number:02}").write_text("x" * 60_000)
    (run / "tags" / "history").write_text("x" * 70_000)
    (source,) = import_paths([run], client=client).sources
    assert source.outcome == Outcome.IMPORTED
    metadata = client.get_run("f" * 32).run.metadata
    assert metadata["team"] == "vision"
    assert metadata["import.format"] == "mlflow"
    assert sum(name.startswith("model.") for name in metadata) == 8
    assert len(source.problems) == 13


def test_a_run_whose_description_is_broken_is_named_and_the_others_go_in(mlruns: Path, tmp_path: Path) -> None:
    shutil.copytree(mlruns, tmp_path / "mlruns")
    (first,) = (one.source for one in find(tmp_path / "mlruns")[0] if one.source.name == "first run")
    (first.path / "meta.yaml").write_text("run_id: [")
    found, problems = find(tmp_path / "mlruns")
    assert [one.source.name for one in found] == ["still running"]
    assert str(first.path / "meta.yaml") in [problem.path for problem in problems]


def test_times_in_seconds_as_mlflow_began_are_understood(mlruns: Path, tmp_path: Path) -> None:
    (first,) = (one.source for one in find(mlruns)[0] if one.source.name == "first run")
    shutil.copytree(first.path, tmp_path / "run")
    (tmp_path / "run" / "metrics" / "train" / "loss").write_text("1551111111 0.5\n1551111112 0.25\n")
    assert read_one(tmp_path / "run").times_ms["train/loss"] == [1_551_111_111_000, 1_551_111_112_000]


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("-3", -3), ("0.001", 0.001), ("1e-05", 1e-05), ("True", True), ("None", None), ("adam", "adam")],
)
def test_params_get_their_type_back(text: str, value: object) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)


@pytest.mark.parametrize("text", ["007", "1E-5", "1_000", " 3", "0.10", "true", ""])
def test_params_that_a_number_would_not_show_exactly_stay_text(text: str) -> None:
    assert typed(text) == text
