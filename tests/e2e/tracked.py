"""A tracker with something to show, for the tests of the `tracker` command."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass

from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client import to_config
from tracker_client.client import TrackerClient

START_MS = 1_700_000_000_000
STEPS = range(50)
LOSSES = [math.nan if step == 7 else math.inf if step == 8 else 1 / (step + 1) for step in STEPS]


@dataclass(frozen=True)
class Tracked:
    """A tracker with an experiment of two runs: `good` has ended well, `bad` is under way."""

    address: str
    experiment: str
    good: str
    bad: str


def track(address: str) -> Tracked:
    """Fills a tracker."""
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
    return made


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
    times = [START_MS + step for step in STEPS]
    loss = resources.MetricColumn(name="train/loss", values=LOSSES)
    accuracy = resources.MetricColumn(name="val/acc", values=[0.25, 0.5])
    client.log_metrics(
        messages.LogMetricsRequest(
            run_id=run_id,
            blocks=[
                resources.MetricBlock(steps=STEPS, times_unix_ms=times, columns=[loss]),
                resources.MetricBlock(steps=[0, 40], times_unix_ms=times[:2], columns=[accuracy]),
            ],
        )
    )
