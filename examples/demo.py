"""Trains small real models with several learning rates, logs them to the tracker, and asks it which was best.

Uses the tracker at TRACKER_SERVER, or one at 127.0.0.1:50051, or else starts its own for as long as it runs.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import tracker_client as tracker
from examples import digits
from examples.embedded import embedded_server
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client import Run, TrackerClient, TrackerError, from_config
from tracker_client.settings import DEFAULT_SERVER

LEARNING_RATES = (0.001, 0.01, 0.1, 1.0, 100.0)
EPOCHS = 30
BATCH_SIZE = 32
SEED = 7
_BARS = "▁▂▃▄▅▆▇█"
_LOWEST = 0.6
"""What the lowest bar stands for; the highest is 1."""


def train(run: Run, learning_rate: float, training: digits.Examples, validation: digits.Examples) -> int:
    """One run, from start to end; returns how many points it has logged."""
    model = digits.SoftmaxRegression(training.pixels.shape[1], SEED)
    step = points = 0
    best = 0.0
    for _ in range(EPOCHS):
        for loss in model.train(training, learning_rate, BATCH_SIZE):
            step += 1
            run.log({"train/loss": loss}, step=step)
        _, train_accuracy = model.judge(training)
        val_loss, val_accuracy = model.judge(validation)
        best = max(best, val_accuracy)
        run.log({"train/accuracy": train_accuracy, "val": {"loss": val_loss, "accuracy": val_accuracy}}, step=step)
        points += 3
        run.summary.update({"val/accuracy": val_accuracy, "val/loss": val_loss, "best val/accuracy": best})
        if run.stop_requested:
            run.finish("cancelled")
            break
    run.finish()
    return points + step


def start(directory: Path, address: str, experiment_id: str, learning_rate: float, inputs: int) -> Run:
    """A run with its config."""
    run = tracker.init(
        experiment=experiment_id,
        run_id=f"{experiment_id}-lr-{learning_rate:g}",
        config={
            "model": {"kind": "softmax regression", "inputs": inputs, "classes": digits.CLASSES},
            "optimizer": {"kind": "sgd", "learning_rate": learning_rate, "batch_size": BATCH_SIZE, "momentum": None},
            "epochs": EPOCHS,
            "seed": SEED,
        },
        tags=["demo", "digits"],
        metadata={"framework": f"numpy {np.__version__}", "gpu_type": "none"},
        server=address,
        directory=directory,
    )
    run.log_artifact("data", digits.SOURCE)
    run.log_artifact("code", Path(__file__))
    return run


def show_runs(client: TrackerClient, runs: Mapping[float, Run]) -> None:
    """Each run's curve, as the tracker has it."""
    tokens = [run.write_token for run in runs.values()]
    series = client.get_metric_history([run.id for run in runs.values()], ["val/accuracy"], write_tokens=tokens)
    print(f"\n  {'learning rate':<15}{'val/accuracy by epoch':<{EPOCHS + 3}}last")
    for learning_rate, one in zip(runs, series, strict=True):
        curve = "".join(_BARS[min(7, max(0, int((value - _LOWEST) / (1 - _LOWEST) * 8)))] for value in one.values)
        print(f"  {learning_rate:<15g}{curve:<{EPOCHS + 3}}{one.values[-1]:.4f}")


def show_summary(client: TrackerClient, experiment_id: str, runs: Sequence[Run], points: int) -> None:
    """What GetSummary says of the experiment, and which run was best."""
    summary = client.get_summary(experiment_id, write_tokens=[run.write_token for run in runs])
    counts = ", ".join(
        f"{count.count} {resources.RunStatus.Name(count.status).removeprefix('RUN_STATUS_').lower()}"
        for count in summary.run_counts
    )
    print(f"\nGetSummary of {experiment_id}: runs: {counts}. Final values over the runs:\n")
    print(f"  {'metric':<19}{'smallest':>9}  {'of run':<9}{'mean':>9}{'largest':>10}  of run")
    shown = [metric for metric in summary.metrics if not metric.name.startswith("system/")]
    for metric in shown:
        low, high = (value.run_id.removeprefix(f"{experiment_id}-") for value in (metric.min, metric.max))
        numbers = f"{metric.min.value:>9.4f}  {low:<9}{metric.mean:>9.4f}{metric.max.value:>10.4f}  {high}"
        print(f"  {metric.name:<19}{numbers}")
    best = next(metric.max for metric in shown if metric.name == "val/accuracy")
    details = [client.get_run(run.id) for run in runs]
    stored = sum(metric.count for one in details for metric in one.metrics if not metric.name.startswith("system/"))
    complete = all(one.completeness.complete for one in details)
    print(
        f"\nOf {points:,} points logged {stored:,} are stored; "
        f"{'every writer is complete' if complete else 'some writes are still missing'}."
    )
    config = next(from_config(one.run.config) for one in details if one.run.run_id == best.run_id)
    print(f"Best learning rate: {config['optimizer']['learning_rate']:g}, with val/accuracy {best.value:.4f}.")


def demonstrate(address: str, directory: Path) -> None:
    """The whole of it, on a tracker that runs. directory: for the runs' journals."""
    with TrackerClient(address) as client:
        training, validation = digits.load(SEED)
        experiment_id = f"digits-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        changes = messages.ExperimentChanges(name="Softmax regression on handwritten digits", tags=["demo"])
        client.update_experiment(messages.UpdateExperimentRequest(experiment_id=experiment_id, changes=changes))
        print(f"Softmax regression on {len(training):,} handwritten digits, judged by {len(validation)} others.")
        runs: dict[float, Run] = {}
        points = 0
        for learning_rate in LEARNING_RATES:
            begun = time.perf_counter()
            run = start(directory, address, experiment_id, learning_rate, training.pixels.shape[1])
            print(f"  training {run.id} ... ", end="", flush=True)
            logged = train(run, learning_rate, training, validation)
            print(f"{EPOCHS} epochs, {logged:,} points, {time.perf_counter() - begun:.1f} s")
            runs[learning_rate] = run
            points += logged
        show_runs(client, runs)
        show_summary(client, experiment_id, list(runs.values()), points)


@contextmanager
def tracker_address() -> Iterator[str]:
    """Of the tracker that runs, or of one that runs as long as it is needed. Ends the program when there is none."""
    wanted = os.environ.get("TRACKER_SERVER", "")
    address = wanted or DEFAULT_SERVER
    try:
        with TrackerClient(address, timeout=3) as client:
            version = client.get_server_info().version
    except TrackerError as error:
        if wanted:
            sys.exit(f"no tracker answers at TRACKER_SERVER={wanted}: {error}")
        with tempfile.TemporaryDirectory(prefix="tracker-demo-") as directory:
            print(f"No tracker at {address}: starting one for as long as this takes.")
            with embedded_server(Path(directory)) as own:
                yield own
        print("Its data is gone now. To keep it: `make run` in one terminal, `make demo` in another.")
    else:
        print(f"Tracker {version} at {address}.")
        yield address


def main() -> None:
    """Finds or starts a tracker and shows what it does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="tracker-demo-", ignore_cleanup_errors=True) as journals,
            tracker_address() as address,
        ):
            demonstrate(address, Path(journals))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
