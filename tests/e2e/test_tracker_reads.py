"""The `tracker` command reads from a real server, in a pipe and on a terminal: lists, runs, histories, comparisons."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.terminal import COMMAND, environment, in_pipe, on_terminal, rows
from tests.e2e.tracked import START_MS, STEPS, Tracked


def test_runs_in_a_pipe_are_lines(tracked: Tracked) -> None:
    done = in_pipe(tracked.address, "runs", "--experiment", tracked.experiment)
    assert (done.code, done.err) == (0, "")
    found = rows(done.out)
    assert [(row["run_id"], row["status"]) for row in found] == [(tracked.bad, "running"), (tracked.good, "completed")]
    assert found[0]["tags"] == r"one, two\twords"
    assert found[0]["started_at"].endswith("Z")


def test_runs_on_a_terminal_are_a_table(tracked: Tracked) -> None:
    done = on_terminal(tracked.address, "runs", "-e", tracked.experiment)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["run", "status", "experiment", "name", "started", "took", "tags"]
    assert "a name [bold]and more[/bold]" in lines[1]
    assert "\x1b[32mcompleted" in done.raw


def test_runs_can_be_chosen_and_counted(tracked: Tracked) -> None:
    done = in_pipe(tracked.address, "runs", "-e", tracked.experiment, "--status", "completed", "-s", "failed", "--json")
    (run,) = [json.loads(line) for line in done.out.splitlines()]
    assert (run["run_id"], run["status"]) == (tracked.good, "completed")
    assert run["config"] == {"epochs": 3, "lr": 0.1, "model": {"depth": 4, "drop": "NaN"}}
    assert run["final_metrics"] == {"loss": 0.0125}
    one = on_terminal(tracked.address, "runs", "-e", tracked.experiment, "--limit", "1")
    assert tracked.good not in one.out
    assert "the newest 1; --limit 0 shows all" in one.out
    assert len(rows(in_pipe(tracked.address, "runs", "-e", tracked.experiment, "--limit", "0").out)) == 2
    assert "no runs" in on_terminal(tracked.address, "runs", "-e", "there-is-none").out


def test_experiments(tracked: Tracked) -> None:
    found = rows(in_pipe(tracked.address, "experiments").out)
    assert {"runs": "2", "experiment_id": tracked.experiment}.items() <= _one(found, tracked.experiment).items()
    assert tracked.experiment in on_terminal(tracked.address, "experiments").out
    (line,) = [
        json.loads(line)
        for line in in_pipe(tracked.address, "experiments", "--json").out.splitlines()
        if tracked.experiment in line
    ]
    assert line["run_count"] == 2


def _one(found: list[dict[str, str]], experiment: str) -> dict[str, str]:
    (row,) = [row for row in found if row["experiment_id"] == experiment]
    return row


def test_show_tells_all_in_each_form(tracked: Tracked) -> None:
    lines = [line.split("\t") for line in in_pipe(tracked.address, "show", tracked.good).out.splitlines()]
    facts = {(part, name): value for part, name, value in lines}
    assert facts["run", "status"] == "completed"
    assert facts["config", "model.depth"] == "4"
    assert facts["config", "model.drop"] == "NaN"
    assert facts["metadata", "host"] == r"a\x1b[31mb"
    assert facts["artifact", "model"] == "s3://bucket/model.pt"
    assert (facts["metric.count", "train/loss"], facts["metric.last", "train/loss"]) == ("50", "0.02")
    assert facts["metric.final", "loss"] == "0.0125"

    shown = on_terminal(tracked.address, "show", tracked.good, width=160)
    assert "\x1b[31mb" not in shown.raw
    assert f"{tracked.good}  completed" in shown.out
    assert "Metrics (3)" in shown.out

    found = json.loads(in_pipe(tracked.address, "show", tracked.good, "--json").out)
    assert {metric["name"]: metric["count"] for metric in found["metrics"]} == {
        "loss": 0,
        "train/loss": 50,
        "val/acc": 2,
    }
    assert found["metrics"][1]["last"] == {"step": 49, "time_unix_ms": START_MS + 49, "value": 0.02}


def test_summary(tracked: Tracked) -> None:
    found = {row["metric"]: row for row in rows(in_pipe(tracked.address, "summary", tracked.experiment).out)}
    assert (found["val/acc"]["runs"], found["val/acc"]["max"]) == ("2", "0.5")
    assert (found["loss"]["min"], found["loss"]["min_run_id"]) == ("0.0125", tracked.good)
    shown = on_terminal(tracked.address, "summary", tracked.experiment).out
    assert "1 running  1 completed" in shown
    assert "Newest runs" in shown
    whole = json.loads(in_pipe(tracked.address, "summary", tracked.experiment, "--json").out)
    assert whole["run_counts"] == {"running": 1, "completed": 1}


def test_history_in_a_pipe_is_every_point(tracked: Tracked) -> None:
    found = rows(in_pipe(tracked.address, "history", tracked.bad, "train/loss", "val/acc").out)
    assert [int(row["step"]) for row in found if row["metric"] == "train/loss"] == list(STEPS)
    values = [row["value"] for row in found]
    assert values[6:9] == [repr(1 / 7), "NaN", "Infinity"]
    assert values[-2:] == ["0.25", "0.5"]
    some = rows(
        in_pipe(tracked.address, "history", tracked.bad, "train/loss", "--min-step", "3", "--max-step", "5").out
    )
    assert [row["step"] for row in some] == ["3", "4", "5"]
    few = rows(in_pipe(tracked.address, "history", tracked.bad, "train/loss", "--max-points", "10").out)
    assert len(few) <= 10
    assert (few[0]["value"], few[-1]["step"]) == ("1.0", "49")


def test_history_as_json_has_names_for_what_json_has_not(tracked: Tracked) -> None:
    done = in_pipe(tracked.address, "history", tracked.bad, "train/loss", "--json")
    points = [json.loads(line, parse_constant=pytest.fail) for line in done.out.splitlines()]
    assert [point["value"] for point in points[6:9]] == [1 / 7, "NaN", "Infinity"]
    assert points[9] == {"metric": "train/loss", "step": 9, "time_unix_ms": START_MS + 9, "value": 0.1}


@pytest.mark.parametrize("color", [True, False])
def test_history_on_a_terminal_is_a_plot(tracked: Tracked, color: bool) -> None:
    variables = {} if color else {"NO_COLOR": "1"}
    arguments = ("history", tracked.bad, "train/loss", "val/acc")
    done = on_terminal(tracked.address, *arguments, width=100, height=30, variables=variables)
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) <= 30
    assert all(len(line) <= 100 for line in lines)
    assert "┌" in lines[0]
    assert "train/loss: last 0.02, min 0.02, max 1, 2 not finite" in lines[-2]
    assert "val/acc: last 0.5, min 0.25, max 0.5" in lines[-1]
    assert ("\x1b[" in done.raw) is color


def test_history_as_a_picture(tracked: Tracked, tmp_path: Path) -> None:
    picture = tmp_path / "loss.png"
    done = in_pipe(tracked.address, "history", tracked.bad, "train/loss", "val/acc", "--output", str(picture))
    assert (done.code, done.out) == (0, "")
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")


def test_compare_shows_what_differs(tracked: Tracked) -> None:
    found = rows(in_pipe(tracked.address, "compare", tracked.good, tracked.bad).out)
    config = {row["name"]: (row[tracked.good], row[tracked.bad]) for row in found if row["part"] == "config"}
    assert config == {"lr": ("0.1", "0.5")}
    metrics = {row["name"]: (row[tracked.good], row[tracked.bad]) for row in found if row["part"] == "metric"}
    assert metrics == {"loss": ("0.0125", ""), "train/loss": ("0.02", "0.02"), "val/acc": ("0.5", "0.5")}
    everything = rows(in_pipe(tracked.address, "compare", tracked.good, tracked.bad, "--all").out)
    assert {row["name"] for row in everything if row["part"] == "config"} == {
        "epochs",
        "lr",
        "model.depth",
        "model.drop",
    }
    shown = on_terminal(tracked.address, "compare", tracked.good, tracked.bad).out
    assert [line.split() for line in shown.splitlines() if " lr " in line] == [["lr", "0.1", "0.5"]]
    whole = json.loads(in_pipe(tracked.address, "compare", tracked.good, tracked.bad, "--json").out)
    assert whole["config"] == {"lr": [0.1, 0.5]}
    assert whole["metrics"]["loss"] == [0.0125, None]


def test_version_is_that_of_the_package(tracked: Tracked) -> None:
    assert in_pipe(tracked.address, "version").out == "0.1.0\n"


def test_a_range_without_points_is_no_mistake(tracked: Tracked) -> None:
    assert in_pipe(tracked.address, "history", tracked.bad, "train/loss", "--min-step", "1000").code == 0
    shown = on_terminal(tracked.address, "history", tracked.bad, "train/loss", "--min-step", "1000")
    assert (shown.code, shown.out.strip()) == (0, "━━ train/loss: no points")


def test_a_reader_that_goes_away_is_no_error(tracked: Tracked) -> None:
    command = [COMMAND, "history", tracked.bad, "train/loss"]
    with subprocess.Popen(command, env=environment(tracked.address), stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_no_color_on_a_terminal(tracked: Tracked) -> None:
    for arguments in (["runs"], ["show", tracked.good], ["summary", tracked.experiment]):
        done = on_terminal(tracked.address, *arguments, variables={"NO_COLOR": "1"})
        assert "\x1b[" not in done.raw


def test_a_terminal_without_unicode_is_no_error(tracked: Tracked) -> None:
    for arguments in (["runs"], ["show", tracked.bad], ["history", tracked.bad, "train/loss"]):
        assert on_terminal(tracked.address, *arguments, variables={"PYTHONIOENCODING": "ascii"}).code == 0
