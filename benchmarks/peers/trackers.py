"""The trackers that are measured: packages, flags, how each is used, and how its reports home are switched off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.peers import servers
from benchmarks.peers.servers import Served

Serve = Callable[[Path, Path, Mapping[str, str]], AbstractContextManager[Served]]
"""Its interpreter, its directory, its environment; gives where its server is."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to log."""

    key: str
    how: str
    """Calls and flags, for people."""
    long: bool = False
    """Whether it gets through the long load in a few seconds."""
    reads: bool = True
    """Whether reads are timed after it: once for each tracker."""


@dataclass(frozen=True, slots=True)
class Tracker:
    """One of them."""

    key: str
    """For --only."""
    name: str
    driver: str
    """A module of benchmarks.peers.drivers."""
    ways: tuple[Way, ...]
    requirements: tuple[str, ...] = ()
    """From PyPI, into an environment of its own; empty: this project's own."""
    environment: str = ""
    """Name of that environment."""
    serve: Serve = servers.none
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables; {directory} stands for the tracker's directory."""
    process_a_run: bool = False
    """Whether each run has a process of its own, as a training script has; else one process writes all that is timed."""
    read_by_us: bool = False
    """Whether its data is read back by this project, since it ships no reader."""

    @property
    def ours(self) -> bool:
        """Whether it is this project."""
        return not self.requirements


_OUR_WAYS: Final = (
    Way("run", "run.log() of a dict for each step, finish()", long=True),
    Way(
        "blocks",
        "TrackerClient.log_metrics, 1,000 steps a call, each acknowledged before the next",
        long=True,
        reads=False,
    ),
)
_MLFLOW: Final = ("mlflow>=3.17", "psycopg2-binary>=2.9", "uvloop>=0.21")
_MLFLOW_SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS": "1",
}
_MLFLOW_WAYS: Final = (
    Way("sync", "MlflowClient.log_batch of 1,000 points (a loop: log_metric, log_batch), synchronous=True"),
    Way("async", "the same with synchronous=False, MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS=1", reads=False),
)

TRACKERS: Final = (
    Tracker("full", "this project, full form", "tracker", _OUR_WAYS, serve=servers.tracker_full, process_a_run=True),
    Tracker(
        "embedded",
        "this project, embedded form",
        "tracker",
        _OUR_WAYS,
        serve=servers.tracker_embedded,
        process_a_run=True,
    ),
    Tracker(
        "trackio",
        "trackio, local",
        "trackio",
        (Way("log", "trackio.log() of a dict for each step; auto_log_cpu/gpu=False, embed=False", long=True),),
        ("trackio>=0.40",),
        "trackio",
        # It has no reports home of its own; its libraries' are off.
        settings={
            "TRACKIO_DIR": "{directory}",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
        },
    ),
    Tracker(
        "wandb",
        "W&B, offline file",
        "wandb",
        (Way("log", "wandb.log() of a dict for each step; mode=offline, console, stats, meta off", long=True),),
        ("wandb>=0.25",),
        "wandb",
        settings={"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"},
        read_by_us=True,
    ),
    Tracker(
        "tensorboard",
        "TensorBoard's file, tensorboardX",
        "tensorboard",
        (Way("scalar", "SummaryWriter.add_scalar for each value, defaults"),),
        ("tensorboardX>=2.6", "tensorboard>=2.18"),
        "tensorboard",
    ),
    Tracker(
        "aim",
        "Aim, local",
        "aim",
        (Way("track", "Run.track() of a dict for each step; system tracking, terminal, system params off"),),
        ("aim>=3.29",),
        "aim",
        # It has no reports home (they were removed), and no switch.
    ),
    Tracker(
        "mlflow-sqlite",
        "MLflow, SQLite",
        "mlflow",
        _MLFLOW_WAYS,
        _MLFLOW,
        "mlflow",
        servers.mlflow_sqlite,
        _MLFLOW_SETTINGS,
    ),
    Tracker(
        "mlflow-postgresql",
        "MLflow, PostgreSQL",
        "mlflow",
        _MLFLOW_WAYS,
        _MLFLOW,
        "mlflow",
        servers.mlflow_postgresql,
        _MLFLOW_SETTINGS,
    ),
)
