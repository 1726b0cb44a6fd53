"""Trains small real models with several learning rates, logs them to the tracker, and asks it which was best.

Uses the tracker at TRACKER_SERVER, or one at 127.0.0.1:50051, or else starts its own for as long as it runs.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np

from examples import digits
from examples.embedded import embedded_server
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_client import from_config, to_config

LEARNING_RATES = (0.001, 0.01, 0.1, 1.0, 100.0)
EPOCHS = 30
EPOCHS_PER_REQUEST = 5
BATCH_SIZE = 32
SEED = 7
DEFAULT_ADDRESS = "127.0.0.1:50051"
# A write that bears its own writer_id and sequence may be sent again: it is stored once.
_RETRIES = {
    "name": [{"service": "tracker.v1.TrackerService"}],
    "retryPolicy": {
        "maxAttempts": 5,
        "initialBackoff": "0.2s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    },
}
_OPTIONS = (("grpc.service_config", json.dumps({"methodConfig": [_RETRIES]})),)
_SECONDS = 10.0
"""How long a call may take."""
_BARS = "▁▂▃▄▅▆▇█"
_LOWEST = 0.6
"""What the lowest bar stands for; the highest is 1."""


class RunLog:
    """One run, logged through the generated stubs. Keeps each write's token, to ask for an answer with all of them."""

    def __init__(self, stub: TrackerServiceStub, run_id: str, experiment_id: str) -> None:
        self.run_id = run_id
        self.tokens: list[str] = []
        self.points = 0
        self._stub = stub
        self._experiment_id = experiment_id
        self._attempt = time.time_ns() // 1_000_000
        self._writer_id = str(uuid.uuid4())
        self._sequence = 0

    def start(self, config: Mapping[str, object], tags: Sequence[str]) -> None:
        """Starts the run."""
        request = messages.StartRunRequest(
            run_id=self.run_id,
            experiment_id=self._experiment_id,
            config=to_config(config),
            tags=tags,
            metadata={"framework": f"numpy {np.__version__}", "gpu_type": "none", "host": os.uname().nodename},
            attempt=self._attempt,
            writer_id=self._writer_id,
            sequence=self._next(),
        )
        self.tokens.append(self._stub.StartRun(request, timeout=_SECONDS).write_token)

    def log(self, *blocks: resources.MetricBlock) -> None:
        """Logs points."""
        request = messages.LogMetricsRequest(
            run_id=self.run_id,
            blocks=blocks,
            attempt=self._attempt,
            writer_id=self._writer_id,
            sequence=self._next(),
        )
        self.tokens.append(self._stub.LogMetrics(request, timeout=_SECONDS).write_token)
        self.points += sum(len(column.values) for one in blocks for column in one.columns)

    def asked_to_stop(self) -> bool:
        """Says that the run is alive, and asks whether somebody wants it to stop."""
        request = messages.HeartbeatRequest(run_id=self.run_id, attempt=self._attempt)
        return self._stub.Heartbeat(request, timeout=_SECONDS).stop_requested

    def complete(self, status: resources.RunStatus.ValueType, final_metrics: Mapping[str, float]) -> None:
        """Ends the run."""
        ended = messages.RunCompletedRequest(
            run_id=self.run_id,
            experiment_id=self._experiment_id,
            status=status,
            final_metrics=final_metrics,
            artifacts={"data": digits.SOURCE.as_uri(), "code": Path(__file__).resolve().as_uri()},
            attempt=self._attempt,
            writer_id=self._writer_id,
            sequence=self._next(),
        )
        self.tokens.append(self._stub.RunCompleted(ended, timeout=_SECONDS).write_token)
        closed = messages.CloseWriterRequest(
            run_id=self.run_id, writer_id=self._writer_id, last_sequence=self._sequence, attempt=self._attempt
        )
        self.tokens.append(self._stub.CloseWriter(closed, timeout=_SECONDS).write_token)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence


def block(steps: Sequence[int], times: Sequence[int], columns: Mapping[str, Sequence[float]]) -> resources.MetricBlock:
    """Metrics that were measured at the same moments."""
    return resources.MetricBlock(
        steps=steps,
        times_unix_ms=times,
        columns=[resources.MetricColumn(name=name, values=values) for name, values in columns.items()],
    )


def train(run: RunLog, learning_rate: float, training: digits.Examples, validation: digits.Examples) -> None:
    """One run, from start to end."""
    run.start(
        {
            "model": {"kind": "softmax regression", "inputs": training.pixels.shape[1], "classes": digits.CLASSES},
            "optimizer": {"kind": "sgd", "learning_rate": learning_rate, "batch_size": BATCH_SIZE, "momentum": None},
            "epochs": EPOCHS,
            "seed": SEED,
        },
        tags=["demo", "digits"],
    )
    model = digits.SoftmaxRegression(training.pixels.shape[1], SEED)
    status: resources.RunStatus.ValueType = resources.RUN_STATUS_COMPLETED
    step, best = 0, 0.0
    steps: list[int] = []
    step_times: list[int] = []
    losses: list[float] = []
    epochs: list[tuple[int, int, float, float, float]] = []
    for epoch in range(1, EPOCHS + 1):
        for loss in model.train(training, learning_rate, BATCH_SIZE):
            step += 1
            steps.append(step)
            step_times.append(time.time_ns() // 1_000_000)
            losses.append(loss)
        _, train_accuracy = model.judge(training)
        val_loss, val_accuracy = model.judge(validation)
        best = max(best, val_accuracy)
        epochs.append((step, time.time_ns() // 1_000_000, train_accuracy, val_loss, val_accuracy))
        if epoch % EPOCHS_PER_REQUEST == 0 or epoch == EPOCHS:
            at, times, train_accuracies, val_losses, val_accuracies = zip(*epochs, strict=True)
            columns = {"train/accuracy": train_accuracies, "val/loss": val_losses, "val/accuracy": val_accuracies}
            run.log(block(steps, step_times, {"train/loss": losses}), block(at, times, columns))
            for sent in (steps, step_times, losses, epochs):
                sent.clear()
            if run.asked_to_stop():
                status = resources.RUN_STATUS_CANCELLED
                break
    run.complete(status, {"val/accuracy": val_accuracy, "val/loss": val_loss, "best val/accuracy": best})


def show_runs(stub: TrackerServiceStub, runs: Mapping[float, RunLog]) -> None:
    """Each run's curve, as the tracker has it."""
    request = messages.GetMetricHistoryRequest(
        run_ids=[run.run_id for run in runs.values()],
        metrics=["val/accuracy"],
        write_tokens=[token for run in runs.values() for token in run.tokens],
    )
    series = stub.GetMetricHistory(request, timeout=_SECONDS).series
    print(f"\n  {'learning rate':<15}{'val/accuracy by epoch':<{EPOCHS + 3}}last")
    for learning_rate, one in zip(runs, series, strict=True):
        curve = "".join(_BARS[min(7, max(0, int((value - _LOWEST) / (1 - _LOWEST) * 8)))] for value in one.values)
        print(f"  {learning_rate:<15g}{curve:<{EPOCHS + 3}}{one.values[-1]:.4f}")


def show_summary(stub: TrackerServiceStub, experiment_id: str, runs: Sequence[RunLog]) -> None:
    """What GetSummary says of the experiment, and which run was best."""
    tokens = [token for run in runs for token in run.tokens]
    request = messages.GetSummaryRequest(experiment_id=experiment_id, write_tokens=tokens)
    summary = stub.GetSummary(request, timeout=_SECONDS)
    counts = ", ".join(
        f"{count.count} {resources.RunStatus.Name(count.status).removeprefix('RUN_STATUS_').lower()}"
        for count in summary.run_counts
    )
    print(f"\nGetSummary of {experiment_id}: runs: {counts}. Final values over the runs:\n")
    print(f"  {'metric':<19}{'smallest':>9}  {'of run':<9}{'mean':>9}{'largest':>10}  of run")
    for metric in summary.metrics:
        low, high = (value.run_id.removeprefix(f"{experiment_id}-") for value in (metric.min, metric.max))
        numbers = f"{metric.min.value:>9.4f}  {low:<9}{metric.mean:>9.4f}{metric.max.value:>10.4f}  {high}"
        print(f"  {metric.name:<19}{numbers}")
    best = next(metric.max for metric in summary.metrics if metric.name == "val/accuracy")
    details = [stub.GetRun(messages.GetRunRequest(run_id=run.run_id), timeout=_SECONDS) for run in runs]
    stored = sum(metric.count for one in details for metric in one.metrics)
    complete = all(one.completeness.complete for one in details)
    print(
        f"\nOf {sum(run.points for run in runs):,} points sent {stored:,} are stored; "
        f"{'every writer is complete' if complete else 'some writes are still missing'}."
    )
    config = next(from_config(one.run.config) for one in details if one.run.run_id == best.run_id)
    print(f"Best learning rate: {config['optimizer']['learning_rate']:g}, with val/accuracy {best.value:.4f}.")


def demonstrate(address: str) -> None:
    """The whole of it, on a tracker that runs."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        stub = TrackerServiceStub(channel)
        training, validation = digits.load(SEED)
        experiment_id = f"digits-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        changes = messages.ExperimentChanges(name="Softmax regression on handwritten digits", tags=["demo"])
        stub.UpdateExperiment(
            messages.UpdateExperimentRequest(experiment_id=experiment_id, changes=changes), timeout=_SECONDS
        )
        print(f"Softmax regression on {len(training):,} handwritten digits, judged by {len(validation)} others.")
        runs: dict[float, RunLog] = {}
        for learning_rate in LEARNING_RATES:
            runs[learning_rate] = run = RunLog(stub, f"{experiment_id}-lr-{learning_rate:g}", experiment_id)
            begun = time.perf_counter()
            print(f"  training {run.run_id} ... ", end="", flush=True)
            train(run, learning_rate, training, validation)
            print(f"{EPOCHS} epochs, {run.points:,} points, {time.perf_counter() - begun:.1f} s")
        show_runs(stub, runs)
        show_summary(stub, experiment_id, list(runs.values()))


@contextmanager
def tracker_address() -> Iterator[str]:
    """Of the tracker that runs, or of one that runs as long as it is needed. Ends the program when there is none."""
    wanted = os.environ.get("TRACKER_SERVER", "")
    address = wanted or DEFAULT_ADDRESS
    try:
        with grpc.insecure_channel(address) as channel:
            info = TrackerServiceStub(channel).GetServerInfo(messages.GetServerInfoRequest(), timeout=3)
    except grpc.RpcError as error:
        if wanted:
            sys.exit(f"no tracker answers at TRACKER_SERVER={wanted}: {error.code().name}")
        with tempfile.TemporaryDirectory(prefix="tracker-demo-") as directory:
            print(f"No tracker at {address}: starting one for as long as this takes.")
            with embedded_server(Path(directory)) as own:
                yield own
        print("Its data is gone now. To keep it: `make run` in one terminal, `make demo` in another.")
    else:
        print(f"Tracker {info.version} at {address}.")
        yield address


def main() -> None:
    """Finds or starts a tracker and shows what it does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        with tracker_address() as address:
            demonstrate(address)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
