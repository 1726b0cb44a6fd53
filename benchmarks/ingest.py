"""Points a second from a client's first request until a read has all of them, each counted.

`python -m benchmarks.ingest ADDRESS RUN COLUMNS STEPS POINTS VALUES AHEAD` is the client: a process of its own that makes columnar
requests, keeps several in flight, closes its writer, and prints how long it took until the last was acknowledged and
until a read that waits for all of them had them. VALUES: pattern, which costs the client next to nothing, or noise, which
is made anew from steps and columns where it is to be compared (noise.py). AHEAD: how many points it may be ahead of what
can be read; 0: as many as it comes to.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import grpc
import numpy as np

from benchmarks.forms import Form
from benchmarks.noise import noise
from tests.e2e.processes import ROOT
from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as calls
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_client import TrackerClient
from tracker_client.channel import open_channel
from tracker_client.endpoint import endpoint
from tracker_client.journal.frames import Identity
from tracker_client.journal.reader import Batch, Rows
from tracker_client.sender.encode import encode_points

_IN_FLIGHT = 8
_SECONDS = 120.0
Values: TypeAlias = Literal["pattern", "noise"]


@dataclass(frozen=True, slots=True)
class Rate:
    """Points a second."""

    acknowledged: float
    readable: float


def measure(form: Form, columns: int, steps: int, points: int) -> Rate:
    """Sends so many points in requests of columns x steps; raises AssertionError when not exactly those are stored."""
    return fill(form, f"bench-{columns}x{steps}-{uuid.uuid4().hex[:8]}", columns, steps, points)


def fill(form: Form, run_id: str, columns: int, steps: int, points: int, values: Values = "pattern") -> Rate:
    """The same for a run of that name."""
    with client(form, run_id, columns, steps, points, values) as process:
        return finished(process, points)


def client(
    form: Form, run_id: str, columns: int, steps: int, points: int, values: Values = "pattern", ahead: int = 0
) -> subprocess.Popen[str]:
    """The client: its first line says how long it took until all was acknowledged."""
    shape = map(str, (columns, steps, points))
    command = [sys.executable, "-m", "benchmarks.ingest", form.address, run_id, *shape, values, str(ahead)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=form.deployment.environment, stdout=pipe, stderr=pipe, text=True)


def finished(process: subprocess.Popen[str], points: int) -> Rate:
    """Waits for the client's end; raises AssertionError when not exactly so many points are stored."""
    printed, complaints = process.communicate(timeout=600)
    assert process.returncode == 0, complaints
    acknowledged, readable, stored = map(float, printed.split())
    assert stored == points, f"{stored:.0f} of {points} points are stored"
    return Rate(points / acknowledged, points / readable)


def complete(form: Form, run_id: str) -> None:
    """Ends a run: what its small chunks have been waiting for. Returns when that is stored."""
    with TrackerClient(form.address, timeout=_SECONDS) as service:
        request = calls.RunCompletedRequest(run_id=run_id, attempt=1, status=data.RUN_STATUS_COMPLETED)
        token = service.run_completed(request).write_token
        assert service.get_run(run_id, write_tokens=[token]).run.status == data.RUN_STATUS_COMPLETED


def main(address: str, run_id: str, columns: int, steps: int, points: int, *, noisy: bool, ahead: int) -> None:
    """The client."""
    identity = Identity(run_id, str(uuid.uuid4()), 1, address)
    names = tuple(f"metric/{number}" for number in range(columns))
    count = points // (columns * steps)
    stretch = max(1, ahead // 2 // (columns * steps))
    with open_channel(endpoint(address)) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        stub = TrackerServiceStub(channel)
        send: Any = channel.unary_unary("/tracker.v1.TrackerService/LogMetrics")
        slots = threading.Semaphore(_IN_FLIGHT)
        calls_under_way: list[Any] = []
        began = time.perf_counter()
        for sequence in range(1, count + 1):
            request = _request(identity, names, sequence, steps, noisy=noisy)
            slots.acquire()
            call = send.future(request, timeout=_SECONDS)
            call.add_done_callback(lambda _: slots.release())
            calls_under_way.append(call)
            if ahead and sequence % stretch == 0 and sequence > stretch:
                earlier = calls_under_way[-stretch - 1].result()
                _wait(stub, run_id, calls.LogMetricsResponse.FromString(earlier).write_token)
        for call in calls_under_way:
            call.result()
        print(time.perf_counter() - began, flush=True)
        close = calls.CloseWriterRequest(run_id=run_id, writer_id=identity.writer_id, last_sequence=count, attempt=1)
        answer = _wait(stub, run_id, stub.CloseWriter(close, timeout=_SECONDS).write_token)
        readable = time.perf_counter() - began
    stored = sum(metric.count for metric in answer.metrics)
    print(readable, stored)


def _wait(stub: TrackerServiceStub, run_id: str, token: str) -> calls.GetRunResponse:
    """The run, once it shows what this token was given for."""
    return stub.GetRun(calls.GetRunRequest(run_id=run_id, write_tokens=[token], page_size=10_000), timeout=_SECONDS)


def _request(identity: Identity, names: tuple[str, ...], sequence: int, steps: int, *, noisy: bool) -> bytes:
    """As the sender makes them: rows of step, time and values."""
    table = np.empty((steps, len(names) + 2), np.int64)
    table[:, 0] = np.arange((sequence - 1) * steps, sequence * steps)
    table[:, 1] = 1_700_000_000_000 + table[:, 0] * 137
    if noisy:
        for column in range(len(names)):
            table[:, 2 + column] = noise(table[:, 0], column).view(np.int64)
    else:
        table[:, 2:] = ((table[:, 0:1] * 0.37) % 1.0 + np.arange(len(names))).view(np.int64)
    return encode_points(identity, Batch(sequence, 1, {0: Rows(names, [table.tobytes()])}), replay=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), noisy=sys.argv[6] == "noise", ahead=int(sys.argv[7]))
