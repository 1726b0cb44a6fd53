"""Logs of one JSON object a line."""

from __future__ import annotations

import math
from pathlib import Path

from tests.importers.reading import find, read_one

DETECTRON = (
    '{"iteration": 19, "loss": 0.5, "rpn/acc": NaN, "time": 0.3}\n{"iteration": 39, "loss": 0.25, "time": 0.2}\n'
)
RLLIB = (
    '{"timesteps_total": 1000, "timestamp": 1577836800, "info": {"lr": 0.1, "learner": {"loss": 2.0}}, "done": false, '
    '"hist": [1, 2], "config": {"gamma": 0.99, "env": "Ant"}, "hostname": "here", "empty": {}, "none": null}\n'
)


def log(folder: Path, text: str, name: str = "metrics.json") -> Path:
    """A file."""
    path = folder / name
    path.write_text(text)
    return path


def test_detectrons_metrics_are_points_by_iteration(tmp_path: Path) -> None:
    log(tmp_path, DETECTRON)
    read = read_one(tmp_path)
    assert read.series["loss"] == [(19, 0.5), (39, 0.25)]
    assert math.isnan(read.series["rpn/acc"][0][1])
    assert set(read.series) == {"loss", "rpn/acc", "time"}


def test_rllibs_results_are_flattened_and_their_config_is_the_config(tmp_path: Path) -> None:
    log(tmp_path, RLLIB, "result.json")
    read = read_one(tmp_path)
    assert read.series == {
        "info/lr": [(1000, 0.1)],
        "info/learner/loss": [(1000, 2.0)],
        "done": [(1000, 0.0)],
    }
    assert read.config == {"gamma": 0.99, "env": "Ant"}
    assert read.times_ms["done"] == [1_577_836_800_000]
    assert read.ignored == {"hist": 1, "hostname": 1}


def test_openmmlabs_scalars_are_points_by_step(tmp_path: Path) -> None:
    log(tmp_path, '{"lr": 0.1, "epoch": 1, "iter": 10, "step": 10}\n', "scalars.json")
    assert read_one(tmp_path).series == {"lr": [(10, 0.1)], "epoch": [(10, 1.0)], "iter": [(10, 10.0)]}


def test_broken_lines_cost_only_themselves(tmp_path: Path) -> None:
    text = '{"step": 1, "loss": 0.5}\nnonsense\n[1]\n\n{"loss": 0.4}\n{"step": 2, "loss": 0.3}\n{"step": 3, "lo'
    read = read_one(log(tmp_path, text, "log.jsonl"))
    assert read.series["loss"] == [(1, 0.5), (2, 0.3)]
    assert [problem.where for problem in read.problems] == ["line 2", "line 3", "line 5", "line 7"]
    assert "cut off" in read.problems[-1].what


def test_lines_without_a_step_are_a_log_only_when_named(tmp_path: Path) -> None:
    path = log(tmp_path, '{"text": "hello", "tokens": 7}\n{"text": "x", "tokens": 9}\n', "data.jsonl")
    log(tmp_path, '{"accuracy": 0.9}\n')
    found, problems = find(tmp_path)
    assert not found
    assert ["no step" in problem.what for problem in problems] == [True, True]
    assert read_one(path).series["tokens"] == [(0, 7.0), (1, 9.0)]


def test_a_document_of_many_lines_is_no_log_of_lines(tmp_path: Path) -> None:
    path = log(tmp_path, '{\n  "loss": 0.5\n}\n')
    found, problems = find(tmp_path)
    assert not found
    assert problems[0].path == str(path)


def test_integers_too_large_for_a_float_are_ignored(tmp_path: Path) -> None:
    read = read_one(log(tmp_path, f'{{"step": 1, "huge": 1{"0" * 400}, "loss": 1}}\n'))
    assert set(read.series) == {"loss"}
    assert read.ignored == {"huge": 1}
