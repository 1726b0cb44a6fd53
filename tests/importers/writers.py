"""Small logs, written by the programs whose formats they are, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_MLFLOW = """
import math, sys
from mlflow.tracking import MlflowClient

client = MlflowClient("file://" + sys.argv[1])
experiment = client.create_experiment("my experiment")
run = client.create_run(experiment, run_name="first run", start_time=1700000000000, tags={"team": "vision"}).info.run_id
for step in range(5):
    client.log_metric(run, "train/loss", 1 / (step + 1), timestamp=1700000001000 + step, step=step)
for value in (0.1, 0.2, math.nan, math.inf):
    client.log_metric(run, "average f_hat", value, timestamp=1700000002000, step=0)
client.log_param(run, "lr", 0.001)
client.log_param(run, "model/depth", 4)
client.log_param(run, "zip", "007")
client.set_terminated(run, "FAILED", end_time=1700000009000)
client.create_run(experiment, run_name="still running")
deleted = client.create_run(experiment, run_name="thrown away").info.run_id
client.delete_run(deleted)
"""

_WANDB = """
import sys
import wandb

settings = wandb.Settings(x_disable_stats=True, disable_git=True, console="off", silent=True)
run = wandb.init(mode="offline", dir=sys.argv[1], project="My project", name="my run", id="abc123", notes="a note",
                 config={"lr": 0.1, "model": {"depth": 4}}, tags=["baseline"], settings=settings)
for step in range(4):
    run.log({"loss": 1 / (step + 1), "nested": {"acc": step / 4}, "text": "words"}, step=step * 10)
run.log({"loss": float("nan"), "nested": {"acc": float("inf")}}, step=40)
run.config.update({"late": True})
run.summary["best"] = 0.5
run.finish(exit_code=int(sys.argv[2]))
"""


def write_mlflow(folder: Path) -> Path:
    """An experiment with a run that failed, one that is running and one that was deleted."""
    # Newer versions want a database, unless they are told.
    _run(_MLFLOW, str(folder), MLFLOW_ALLOW_FILE_STORE="true")
    return folder


def write_wandb(folder: Path, exit_code: int = 0) -> Path:
    """A run in offline mode."""
    _run(_WANDB, str(folder), str(exit_code), WANDB_ERROR_REPORTING="false", WANDB_MODE="offline")
    return folder


def _run(script: str, *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
