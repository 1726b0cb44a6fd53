"""The `tracker` command against a real server: every command, in a pipe and on a terminal, right and wrong."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.servers.processes import wait_until
from tests.e2e.deployment import Deployment
from tests.e2e.terminal import COMMAND, Done, environment, in_pipe, on_terminal, rows
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client import to_config
from tracker_client.client import TrackerClient

_NOWHERE = "127.0.0.1:1"
_PATH = os.pathsep.join(path for path in sys.path if path)
_START_MS = 1_700_000_000_000
_STEPS = range(50)
_LOSSES = [math.nan if step == 7 else math.inf if step == 8 else 1 / (step + 1) for step in _STEPS]


@dataclass(frozen=True)
class Tracked:
    """A tracker with an experiment of two runs: `good` has ended well, `bad` is under way."""

    address: str
    experiment: str
    good: str
    bad: str


@pytest.fixture(scope="module")
def tracked(calm_embedded: Deployment) -> Iterator[Tracked]:
    """Filled once; nothing here changes it."""
    address = calm_embedded.server.address
    name = uuid.uuid4().hex[:8]
    made = Tracked(address, f"exp-{name}", f"good-{name}", f"bad-{name}")
    with TrackerClient(address) as client:
        _fill(client, made, made.good, 0.1)
        _fill(client, made, made.bad, 0.5)
        client.run_completed(
            messages.RunCompletedRequest(
                run_id=made.good,
                status=resources.RUN_STATUS_COMPLETED,
                final_metrics={"loss": 0.0125},
                artifacts={"model": "s3://bucket/model.pt"},
            )
        )
        yield made


def _fill(client: TrackerClient, made: Tracked, run_id: str, rate: float) -> None:
    client.start_run(
        messages.StartRunRequest(
            run_id=run_id,
            experiment_id=made.experiment,
            name="a name [bold]and more[/bold]",
            config=to_config({"lr": rate, "epochs": 3, "model": {"depth": 4, "drop": math.nan}}),
            tags=["one", "two\twords"],
            metadata={"host": "a\x1b[31mb"},
        )
    )
    times = [_START_MS + step for step in _STEPS]
    loss = resources.MetricColumn(name="train/loss", values=_LOSSES)
    accuracy = resources.MetricColumn(name="val/acc", values=[0.25, 0.5])
    client.log_metrics(
        messages.LogMetricsRequest(
            run_id=run_id,
            blocks=[
                resources.MetricBlock(steps=_STEPS, times_unix_ms=times, columns=[loss]),
                resources.MetricBlock(steps=[0, 40], times_unix_ms=times[:2], columns=[accuracy]),
            ],
        )
    )


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
    assert found["metrics"][1]["last"] == {"step": 49, "time_unix_ms": _START_MS + 49, "value": 0.02}


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
    assert [int(row["step"]) for row in found if row["metric"] == "train/loss"] == list(_STEPS)
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
    assert points[9] == {"metric": "train/loss", "step": 9, "time_unix_ms": _START_MS + 9, "value": 0.1}


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


def test_tail_once_says_where_the_run_is(tracked: Tracked) -> None:
    done = in_pipe(tracked.address, "tail", tracked.bad, "--once")
    assert done.code == 0
    assert {row["metric"]: row["step"] for row in rows(done.out)} == {"train/loss": "49", "val/acc": "40"}
    shown = on_terminal(tracked.address, "tail", tracked.bad, "val/acc", "--once").out
    assert "step 40" in shown
    assert "train/loss" not in shown
    assert f"run {tracked.bad}: running." in shown


def test_tail_follows_until_the_run_ends(tracked: Tracked) -> None:
    """New points come within a moment, each once; several of one step, and metrics that begin later, too."""
    run_id = f"live-{uuid.uuid4().hex[:8]}"
    with TrackerClient(tracked.address) as client:
        _log(client, run_id, "loss", 0, 1.0)
        command = [COMMAND, "tail", run_id, "--interval", "0.1", "--json"]
        with subprocess.Popen(command, env=environment(tracked.address), stdout=-1, stderr=-1, text=True) as process:
            assert process.stdout is not None
            seen = [json.loads(process.stdout.readline())]
            for step, value in ((1, 0.5), (1, 0.25), (2, math.nan)):
                _log(client, run_id, "loss", step, value)
                seen.append(json.loads(process.stdout.readline()))
            _log(client, run_id, "later", 0, 7.0)
            seen.append(json.loads(process.stdout.readline()))
            client.run_completed(messages.RunCompletedRequest(run_id=run_id, status=resources.RUN_STATUS_FAILED))
            rest, err = process.communicate(timeout=30)
    assert [(point["metric"], point["step"], point["value"]) for point in seen] == [
        ("loss", 0, 1.0),
        ("loss", 1, 0.5),
        ("loss", 1, 0.25),
        ("loss", 2, "NaN"),
        ("later", 0, 7.0),
    ]
    assert (process.returncode, rest) == (0, "")
    assert f"run {run_id}: failed." in err


def _log(client: TrackerClient, run_id: str, name: str, step: int, value: float) -> None:
    client.log_metric(messages.LogMetricRequest(run_id=run_id, name=name, step=step, value=value))


def test_tail_outlives_a_server_that_is_away(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "tracker").start()
    try:
        with TrackerClient(deployment.server.address) as client:
            _log(client, "long", "loss", 0, 1.0)
            command = [COMMAND, "tail", "long", "--interval", "0.1"]
            variables = environment(deployment.server.address)
            with subprocess.Popen(command, env=variables, stdout=-1, stderr=-1, text=True) as process:
                assert process.stdout is not None
                assert process.stdout.readline().startswith("metric")
                assert process.stdout.readline().startswith("loss\t0\t")
                deployment.server.kill()
                deployment.server.start()
                _log(client, "long", "loss", 1, 0.5)
                assert process.stdout.readline().startswith("loss\t1\t")
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=30)
        assert process.returncode == 130
    finally:
        deployment.close()


def test_stop_asks_and_takes_back(tracked: Tracked) -> None:
    run_id = f"stop-{uuid.uuid4().hex[:8]}"
    with TrackerClient(tracked.address) as client:
        client.start_run(messages.StartRunRequest(run_id=run_id, attempt=5))
        assert in_pipe(tracked.address, "stop", run_id).code == 0
        assert client.get_run(run_id).run.stop_requested
        beat = messages.HeartbeatRequest(run_id=run_id, attempt=5)
        assert wait_until(lambda: client.heartbeat(beat).stop_requested, 30, interval=0.05)
        assert in_pipe(tracked.address, "stop", run_id, "--undo").code == 0
        assert not client.get_run(run_id).run.stop_requested


def test_stop_makes_no_run_and_stops_none_that_has_ended(tracked: Tracked) -> None:
    missing = f"missing-{uuid.uuid4().hex[:8]}"
    assert in_pipe(tracked.address, "stop", missing).code == 1
    assert in_pipe(tracked.address, "show", missing).code == 1
    done = in_pipe(tracked.address, "stop", tracked.good)
    assert (done.code, done.err) == (1, f"tracker: run {tracked.good} is completed already\n")


def test_import_brings_in_a_log_once(tracked: Tracked, tmp_path: Path) -> None:
    folder = tmp_path / uuid.uuid4().hex[:8]
    folder.mkdir()
    (folder / "metrics.csv").write_text("step,loss,note\n0,1.5,a\n1,nan,b\n2,0.5,c\n")
    dry = in_pipe(tracked.address, "import", str(folder), "--dry-run")
    assert [(row["outcome"], row["points"]) for row in rows(dry.out)] == [("found", "3")]
    (first,) = rows(in_pipe(tracked.address, "import", str(folder)).out)
    assert (first["outcome"], first["experiment_id"]) == ("imported", folder.name)
    found = rows(in_pipe(tracked.address, "history", first["run_id"], "loss").out)
    assert [(row["step"], row["value"]) for row in found] == [("0", "1.5"), ("1", "NaN"), ("2", "0.5")]
    again = on_terminal(tracked.address, "import", str(folder))
    assert again.code == 0
    assert "already there" in again.out
    whole = json.loads(in_pipe(tracked.address, "import", str(folder), "--json").out)
    assert whole["sources"][0]["outcome"] == "already there"


def test_import_shows_and_takes_what_columns_mean(tracked: Tracked, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch,batch,loss\n0,10,1.5\n0,20,1.25\n")
    shown = on_terminal(tracked.address, "import", str(tmp_path), "--dry-run", width=160).out
    assert "step: batch" in shown
    other = on_terminal(tracked.address, "import", str(tmp_path), "--dry-run", "--step-column", "epoch", width=160).out
    assert "step: epoch" in other


def test_import_names_what_it_cannot_read(tracked: Tracked, tmp_path: Path) -> None:
    done = in_pipe(tracked.address, "import", str(tmp_path / "missing"))
    assert done.code == 1
    assert "missing: there is no such file or folder" in done.err


_OFFLINE = """
import tracker_client as tracker
with tracker.init(experiment="offline", run_id={run_id!r}, mode="offline", capture=False) as run:
    for step in range(500):
        run.log({{"loss": 1 / (step + 1)}}, step=step)
"""


@pytest.mark.parametrize("shell", [in_pipe, on_terminal])
def test_sync_sends_what_a_run_has_left(tracked: Tracked, tmp_path: Path, shell: Callable[..., Done]) -> None:
    run_id = f"offline-{uuid.uuid4().hex[:8]}"
    left = subprocess.run(
        [sys.executable, "-c", _OFFLINE.format(run_id=run_id)],
        env={**environment(_NOWHERE), "PYTHONPATH": _PATH, "TRACKER_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert left.returncode == 0, left.stderr
    away = shell(_NOWHERE, "sync", str(tmp_path), "--timeout", "0.5")
    assert away.code == 3
    assert "1 journal not sent: UNAVAILABLE" in " ".join((away.out + away.err).split())
    done = shell(tracked.address, "sync", str(tmp_path), "--server", tracked.address)
    assert done.code == 0
    assert "sent 500 points; 1 journal done" in done.out
    assert "sent 0 points" in shell(tracked.address, "sync", str(tmp_path)).out
    found = rows(in_pipe(tracked.address, "history", run_id, "loss").out)
    assert [int(row["step"]) for row in found] == list(range(500))


def test_sync_of_nothing(tracked: Tracked, tmp_path: Path) -> None:
    done = in_pipe(tracked.address, "sync", cwd=tmp_path)
    assert (done.code, done.out) == (0, "nothing to send: there is no directory .tracker\n")
    done = in_pipe(tracked.address, "sync", "elsewhere", cwd=tmp_path)
    assert done.code == 2
    assert "there is no directory elsewhere" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "frobnicate"),
        (["runs", "--status", "odd"], "odd"),
        (["runs", "--limit", "-1"], "--limit"),
        (["history", "run"], "METRIC"),
        (["history", "run", "loss", "--output", "loss.csv"], "it must end in .png"),
        (["history", "run", "loss", "--max-points", "3"], "--max-points"),
        (["compare", "run", "run"], "compare takes two runs or more"),
        (["export", "run"], "--output"),
        (["export", "run", "--output", "points.xlsx"], "give --format csv, jsonl, parquet"),
        (["import", ".", "--format", "odd"], "there is no format 'odd'"),
        (["runs", "--server", "nonsense"], "server is 'nonsense'; it must be HOST:PORT"),
    ],
)
def test_wrong_usage_is_2(tracked: Tracked, arguments: list[str], said: str) -> None:
    done = in_pipe(tracked.address, *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "missing"], "`tracker runs` lists the runs"),
        (["summary", "missing"], "`tracker experiments` lists the experiments"),
        (["tail", "missing"], "missing"),
        (["history", "missing", "loss"], "missing"),
        (["compare", "missing", "other"], "missing"),
        (["export", "missing", "-o", "-"], "missing"),
        (["show", "not an id"], "run_id"),
    ],
)
def test_what_is_not_there_is_1(tracked: Tracked, arguments: list[str], said: str) -> None:
    done = in_pipe(tracked.address, *arguments)
    assert done.code == 1
    assert done.err.startswith("tracker: ")
    assert said in done.err


def test_a_metric_that_is_not_there_is_1_and_names_those_that_are(tracked: Tracked) -> None:
    for run in (in_pipe, on_terminal):
        done = run(tracked.address, "history", tracked.bad, "train/los")
        assert done.code == 1
        assert "it has: train/loss, val/acc" in done.out + done.err


def test_a_range_without_points_is_no_mistake(tracked: Tracked) -> None:
    assert in_pipe(tracked.address, "history", tracked.bad, "train/loss", "--min-step", "1000").code == 0
    shown = on_terminal(tracked.address, "history", tracked.bad, "train/loss", "--min-step", "1000")
    assert (shown.code, shown.out.strip()) == (0, "━━ train/loss: no points")


@pytest.mark.parametrize("arguments", [["runs"], ["tail", "run"], ["stop", "run"], ["import", "."]])
def test_an_unreachable_server_is_3(arguments: list[str]) -> None:
    began = time.monotonic()
    done = in_pipe(_NOWHERE, *arguments)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"tracker: no tracker answers at {_NOWHERE}")
    assert "--server or TRACKER_SERVER" in done.err
    assert time.monotonic() - began < 20


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


_WITHOUT_TYPER = "import sys; sys.modules['typer'] = None; from tracker_client.cli import main; main()"


def _base_install(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As where only grpcio and protobuf are installed: importing typer fails."""
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT_TYPER, *arguments],
        cwd=cwd,
        env={**environment(_NOWHERE), "PYTHONPATH": _PATH},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", [[], ["runs"], ["--help"], ["version"]])
def test_the_base_install_says_what_to_install(arguments: list[str], tmp_path: Path) -> None:
    done = _base_install(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("needs the extra `cli`: pip install 'experiment-tracker[cli]'\n")
    assert done.stderr.count("\n") == 1


def test_the_base_install_syncs(tmp_path: Path) -> None:
    done = _base_install("sync", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "nothing to send: there is no directory .tracker\n")
    assert _base_install("sync", "--timeout", "soon", cwd=tmp_path).returncode == 2
