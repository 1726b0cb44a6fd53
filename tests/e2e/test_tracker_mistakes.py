"""What the `tracker` command says, and the code that it ends with, when something is wrong."""

from __future__ import annotations

import time

import pytest

from tests.e2e.terminal import NOWHERE, in_pipe, on_terminal
from tests.e2e.tracked import Tracked


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


@pytest.mark.parametrize("arguments", [["runs"], ["tail", "run"], ["stop", "run"], ["import", "."]])
def test_an_unreachable_server_is_3(arguments: list[str]) -> None:
    began = time.monotonic()
    done = in_pipe(NOWHERE, *arguments)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"tracker: no tracker answers at {NOWHERE}")
    assert "--server or TRACKER_SERVER" in done.err
    assert time.monotonic() - began < 20
