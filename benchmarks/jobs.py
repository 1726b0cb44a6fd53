"""Many training jobs at once, simulated: what they cost each part, and whether all of it keeps up.

`python -m benchmarks.jobs --jobs 1000 --seconds 20`. Each job sends a batch of a few metrics and steps every so often, as
a run's sender does, and its own start and end. Every point is counted afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks import forms
from benchmarks.costs import costs
from benchmarks.figures import machine
from benchmarks.forms import Form
from deploy.servers import RabbitMQ
from tests.e2e.processes import ROOT
from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client import AsyncTrackerClient, TrackerClient
from tracker_client.journal.frames import Identity
from tracker_client.journal.reader import Batch, Rows
from tracker_client.sender.encode import encode_points

_CHANNELS = 8
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Load:
    """What the jobs do."""

    jobs: int
    metrics: int = 10
    steps: int = 5
    """A batch."""
    every_seconds: float = 0.5
    """Between two batches of a job."""
    seconds: float = 20.0

    @property
    def points_per_second(self) -> float:
        """Of all jobs."""
        return self.jobs * self.metrics * self.steps / self.every_seconds


@dataclass(frozen=True, slots=True)
class Sent:
    """What the load generator says of itself."""

    requests: int
    points: int
    seconds: float
    late_seconds: float
    """By how much the last batch was behind its time."""


def simulate(form: Form, load: Load) -> None:
    """Runs the load and prints what it cost."""
    experiment_id = f"jobs-{uuid.uuid4().hex[:8]}"
    before, messages_before, began = costs(form), _messages(form), time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "benchmarks.jobs",
        "--client",
        form.address,
        experiment_id,
        json.dumps(asdict(load)),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=form.deployment.environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    sent = Sent(**json.loads(done.stdout))
    acknowledged = time.perf_counter() - began
    stored = _wait_stored(form, experiment_id, load)
    behind = time.perf_counter() - began - acknowledged
    after, messages = costs(form), _messages(form) - messages_before
    assert stored == sent.points, f"{stored} of {sent.points} points are stored"
    print(f"{machine()}\n")
    print(
        f"{load.jobs:,} jobs, {load.metrics} metrics x {load.steps} steps every {load.every_seconds} s: "
        f"{sent.requests / sent.seconds:,.0f} requests/s, {sent.points / sent.seconds:,.0f} points/s for {sent.seconds:.0f} s; "
        f"the last batch {sent.late_seconds:.1f} s late, all readable {behind:.1f} s after the last acknowledgement; "
        f"{messages:,} messages, {messages / sent.points * 1e6:,.0f} a million points\n"
    )
    print("| part | CPU s | ms a request | CPU s a million points | MiB written |\n|---|---|---|---|---|")
    for name, cost in ((name, after[name] - before[name]) for name in after):
        print(
            f"| {name} | {cost.cpu_seconds:.1f} | {1000 * cost.cpu_seconds / sent.requests:.2f} "
            f"| {cost.cpu_seconds / sent.points * 1e6:.1f} | {cost.written_bytes / _MIB:,.0f} |"
        )


def _messages(form: Form) -> int:
    """What RabbitMQ has received so far."""
    rabbitmq = form.servers["RabbitMQ"]
    assert isinstance(rabbitmq, RabbitMQ)
    counters = "maps:get([{protocol, amqp091}], rabbit_global_counters:overview())"
    return int(rabbitmq.evaluate(f"maps:get(messages_received_total, {counters})"))


def _wait_stored(form: Form, experiment_id: str, load: Load) -> int:
    """How many points are stored, once nothing more comes."""
    deadline = time.monotonic() + 120
    with TrackerClient(form.address, timeout=60) as client:
        while True:
            summary = client.get_summary(experiment_id)
            ended = sum(c.count for c in summary.run_counts if c.status == data.RUN_STATUS_COMPLETED)
            if ended == load.jobs or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        stored = 0
        for number in range(load.jobs):
            run = client.get_run(f"{experiment_id}-{number}")
            stored += sum(metric.count for metric in run.metrics)
    return stored


async def _jobs(address: str, experiment_id: str, load: Load) -> Sent:
    names = tuple(f"metric/{number}" for number in range(load.metrics))
    clients = [AsyncTrackerClient(address) for _ in range(_CHANNELS)]
    began = time.perf_counter()
    late = [0.0] * load.jobs
    batches = max(1, round(load.seconds / load.every_seconds))

    async def job(number: int) -> None:
        client = clients[number % _CHANNELS]
        identity = Identity(f"{experiment_id}-{number}", str(uuid.uuid4()), 1, address)
        own: dict[str, Any] = {"run_id": identity.run_id, "writer_id": identity.writer_id, "attempt": 1}
        due = began + random.random() * load.every_seconds  # noqa: S311 - jobs do not start together
        for batch in range(batches):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            late[number] = time.perf_counter() - due
            if batch == 0:
                start = messages.StartRunRequest(**own, sequence=1, experiment_id=experiment_id)
                await client.start_run(start)
            request = messages.LogMetricsRequest.FromString(_batch(identity, names, batch, load.steps))
            await client.log_metrics(request)
            due += load.every_seconds
        end = messages.RunCompletedRequest(**own, sequence=batches + 2, status=data.RUN_STATUS_COMPLETED)
        await client.run_completed(end)

    await asyncio.gather(*(job(number) for number in range(load.jobs)))
    seconds = time.perf_counter() - began
    for client in clients:
        await client.close()
    points = load.jobs * batches * load.metrics * load.steps
    return Sent(load.jobs * (batches + 2), points, seconds, max(late))


def _batch(identity: Identity, names: tuple[str, ...], batch: int, steps: int) -> bytes:
    table = np.empty((steps, len(names) + 2), np.int64)
    table[:, 0] = np.arange(batch * steps, (batch + 1) * steps)
    table[:, 1] = time.time_ns() // 1_000_000
    table[:, 2:] = np.full((steps, len(names)), 0.5).view(np.int64)
    return encode_points(identity, Batch(batch + 2, 1, {0: Rows(names, [table.tobytes()])}), replay=False)


def main() -> None:
    """Simulates what was asked for, on a full form of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--metrics", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    load = Load(options.jobs, options.metrics, options.steps, seconds=options.seconds)
    with forms.full() as form:
        simulate(form, load)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        sent = asyncio.run(_jobs(sys.argv[2], sys.argv[3], Load(**json.loads(sys.argv[4]))))
        print(json.dumps(asdict(sent)))
    else:
        main()
