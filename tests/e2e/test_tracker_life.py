"""The `tracker` command about the life of runs: finding, changing, stopping, rewinding, deleting them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.deployment import Deployment
from tests.e2e.terminal import Done, in_pipe, on_terminal, rows
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client import to_config
from tracker_client.client import TrackerClient


@dataclass(frozen=True)
class Team:
    """An experiment of three runs, each of which learned better than the one before."""

    address: str
    experiment: str
    runs: list[str]

    def tracker(self, *arguments: str) -> Done:
        """Runs the command in a pipe; it must do well."""
        done = in_pipe(self.address, *arguments)
        assert (done.code, done.err) == (0, ""), done
        return done


@pytest.fixture
def team(calm_embedded: Deployment) -> Iterator[Team]:
    address = calm_embedded.server.address
    name = uuid.uuid4().hex[:8]
    made = Team(address, f"team-{name}", [f"{name}-{number}" for number in range(3)])
    with TrackerClient(address) as client:
        for number, run_id in enumerate(made.runs):
            client.start_run(
                messages.StartRunRequest(
                    run_id=run_id,
                    experiment_id=made.experiment,
                    config=to_config({"lr": 0.1**number}),
                    group="even" if number % 2 == 0 else "odd",
                    parent_run_id="sweep",
                    attempt=1,
                )
            )
            loss = resources.MetricColumn(name="val/loss", values=[1.0, 0.5 - number / 10])
            block = resources.MetricBlock(steps=[0, 1], columns=[loss])
            last = client.log_metrics(messages.LogMetricsRequest(run_id=run_id, blocks=[block], attempt=1))
        client.get_run(made.runs[-1], write_tokens=[last.write_token])
        yield made


def test_runs_are_found_ordered_and_shown_with_metrics(team: Team) -> None:
    first, second, third = team.runs
    found = rows(team.tracker("runs", "-e", team.experiment, "-o", "metrics.val/loss.last", "-m", "val/loss").out)
    assert [(row["run_id"], row["val/loss"]) for row in found] == [(third, "0.3"), (second, "0.4"), (first, "0.5")]
    some = team.tracker("runs", "-e", team.experiment, "-f", "config.lr > 0.5 OR metrics.val/loss < 0.35", "--json").out
    assert [json.loads(line)["run_id"] for line in some.splitlines()] == [third, first]
    assert [row["run_id"] for row in rows(team.tracker("runs", "-e", team.experiment, "-g", "odd").out)] == [second]
    part = team.tracker("runs", "-e", team.experiment, "--parent", "sweep", "-n", "2", "-m", "val/loss", "--json").out
    assert [one["metrics"][0]["name"] for one in map(json.loads, part.splitlines())] == ["val/loss"] * 2
    assert (
        "the newest 2; --limit 0 shows all" in on_terminal(team.address, "runs", "-e", team.experiment, "-n", "2").out
    )
    wrong = in_pipe(team.address, "runs", "--filter", "stauts = LOST")
    assert wrong.code == 1
    assert "at character 1" in wrong.err
    assert "did you mean status?" in wrong.err


def test_what_metrics_mean_is_said_and_summaries_name_the_best(team: Team) -> None:
    team.tracker("define", team.experiment, "val/*", "--goal", "minimize", "--unit", "nats")
    (row,) = rows(team.tracker("metrics", team.experiment, "--prefix", "val").out)
    assert (row["metric"], row["runs"], row["goal"], row["unit"]) == ("val/loss", "3", "minimize", "nats")
    summary = json.loads(team.tracker("summary", team.experiment, "--json").out)
    (metric,) = summary["metrics"]
    assert metric["best"] == {"value": 0.3, "run_id": team.runs[2]}
    assert metric["worst"] == {"value": 0.5, "run_id": team.runs[0]}
    assert "minimize" in on_terminal(team.address, "summary", team.experiment).out
    team.tracker("define", team.experiment, "val/*", "--remove")
    assert json.loads(team.tracker("metrics", team.experiment, "--json").out)["definition"] is None


def test_a_run_is_edited_label_by_label_and_what_the_run_says_does_not_undo_it(team: Team) -> None:
    run = team.runs[0]
    team.tracker("edit", run, "--name", "Best", "--notes", "keep", "--add-tag", "a", "--add-tag", "b", "--group", "x")
    team.tracker("edit", run, "--remove-tag", "a", "--parent", "")
    with TrackerClient(team.address) as client:
        client.start_run(messages.StartRunRequest(run_id=run, name="again", group="even", attempt=1))
    told = json.loads(team.tracker("show", run, "--json").out)
    assert (told["name"], told["notes"], told["tags"]) == ("Best", "keep", ["b"])
    assert (told["group"], told["parent_run_id"]) == ("x", "")
    assert len(told["attempts"]) == 1
    assert in_pipe(team.address, "edit", run).code == 2
    assert in_pipe(team.address, "edit", "nobody", "--name", "x").code == 1


def test_a_run_is_stopped_with_a_reason(team: Team) -> None:
    team.tracker("stop", team.runs[1], "--reason", "diverged")
    told = json.loads(team.tracker("show", team.runs[1], "--json").out)
    assert (told["stop_requested"], told["stop_reason"]) == (True, "diverged")
    assert "asked to stop: diverged" in on_terminal(team.address, "show", team.runs[1]).out
    # A person's change is no writer of whom more is to come.
    assert told["completeness"]["writers"] == []


def test_a_rewind_leaves_what_lies_before_the_checkpoint(team: Team) -> None:
    attempt = int(team.tracker("rewind", team.runs[0], "0").out)
    told = json.loads(team.tracker("show", team.runs[0], "--json").out)
    assert [one["rewound_from_step"] for one in told["attempts"]] == [None, 1]
    assert told["attempt"] == attempt
    assert [row["step"] for row in rows(team.tracker("history", team.runs[0], "val/loss").out)] == ["0"]


def test_deleted_runs_are_gone_and_come_back(team: Team) -> None:
    first, second, third = team.runs
    assert "deleted" in team.tracker("delete", first, second, "--yes").out
    assert [row["run_id"] for row in rows(team.tracker("runs", "-e", team.experiment).out)] == [third]
    assert in_pipe(team.address, "show", first).code == 1
    assert json.loads(team.tracker("show", first, "--deleted", "--json").out)["deleted_at"]
    assert len(rows(team.tracker("runs", "-e", team.experiment, "--deleted").out)) == 3
    team.tracker("undelete", first, second)
    assert len(rows(team.tracker("runs", "-e", team.experiment).out)) == 3
    assert "with 3 runs deleted" in team.tracker("delete", "-e", team.experiment, "-y").out
    assert rows(team.tracker("runs", "-e", team.experiment).out) == []
    assert in_pipe(team.address, "summary", team.experiment).code == 1
    team.tracker("undelete", "-e", team.experiment)
    assert len(rows(team.tracker("runs", "-e", team.experiment).out)) == 3
    assert in_pipe(team.address, "delete", "nobody", "--yes").code == 1
    assert in_pipe(team.address, "delete").code == 2


def test_a_deletion_asks_first(team: Team) -> None:
    refused = in_pipe(team.address, "delete", team.runs[0])
    assert refused.code == 1
    assert len(rows(team.tracker("runs", "-e", team.experiment).out)) == 3


def test_how_long_runs_are_kept_is_said_and_shown(team: Team) -> None:
    assert team.tracker("retention", team.experiment).out.endswith("runs are kept for ever\n")
    said = team.tracker("retention", team.experiment, "--delete-runs", "30", "--drop-points", "7").out
    assert said.endswith("runs are deleted 30 days after their end, points are dropped 7 days after their end\n")
    assert "7 days" not in team.tracker("retention", team.experiment, "--drop-points", "0").out
    assert team.tracker("retention", team.experiment, "--forever").out.endswith("kept for ever\n")
    assert in_pipe(team.address, "retention", team.experiment, "--forever", "--drop-points", "1").code == 2
