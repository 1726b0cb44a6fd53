"""How soon a point is visible to a reader: with nothing else to do, and under full load.

`python -m benchmarks.visibility ADDRESS DIRECTORY RUN...` is the training process of the latter: it logs a point to each of
the runs and reads until it is there, again and again, from the line "go" on its standard input to the next line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tracker_client as tracker
from benchmarks import ingest
from benchmarks.forms import Form
from tests.e2e.processes import ROOT
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client import TrackerClient
from tracker_client.errors import NotFound
from tracker_server.config import Settings
from tracker_server.partitions import partition_of

_QUIET_SECONDS = 0.5
_POLL_SECONDS = 0.02
_PAUSE_SECONDS = 0.05
_PROBES = 4
_METRIC = "probe"
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a reader sees while much comes in."""

    rate: float
    """Points a second of the load, until readable."""
    seconds: list[float]
    """Of each point logged beside it, ascending."""

    def quantile(self, share: float) -> float:
        """Seconds within which this share of the points was visible."""
        return self.seconds[int(len(self.seconds) * share)]


def idle_seconds(form: Form, count: int) -> tuple[float, float]:
    """Median and 99th percentile of the time from a write to the end of a read that shows it, the service being idle."""
    run_id = f"bench-visible-{uuid.uuid4().hex[:8]}"
    times = []
    with TrackerClient(form.address, timeout=30) as client:
        for step in range(count):
            # Idle means idle: a consumer that has just flushed waits a little for more.
            time.sleep(_QUIET_SECONDS)
            began = time.perf_counter()
            request = messages.LogMetricRequest(run_id=run_id, name="loss", value=0.5, step=step)
            token = client.log_metric(request).write_token
            assert client.get_run(run_id, write_tokens=[token]).metrics[0].count == step + 1
            times.append(time.perf_counter() - began)
    times.sort()
    return times[len(times) // 2], times[int(len(times) * 0.99)]


def loaded_seconds(form: Form, points: int, ahead: int) -> Loaded:
    """The time from run.log() until a read shows the point, of every point logged while so many others come in.

    ahead: by how many points the load may be ahead of what can be read; 0: as many as it comes to, faster than they are
    stored. The probing runs lie in different partitions, one of them in that of the load. Polling adds up to 20 ms.
    """
    load, probes = _runs()
    with tempfile.TemporaryDirectory(prefix="tracker-bench-", ignore_cleanup_errors=True) as directory:
        command = [sys.executable, "-m", "benchmarks.visibility", form.address, directory, *probes]
        environment, pipe = form.deployment.environment, subprocess.PIPE
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        ) as probing:
            assert probing.stdin is not None
            assert probing.stdout is not None
            assert probing.stdout.readline() == "ready\n", probing.communicate()
            with ingest.client(form, load, 10, 1_000, points, ahead=ahead) as process:
                print("go", file=probing.stdin, flush=True)
                rate = ingest.finished(process, points)
            printed, complaints = probing.communicate("stop\n", timeout=2 * _SECONDS)
        assert probing.returncode == 0, complaints
    return Loaded(rate.readable, sorted(json.loads(printed)))


def _runs() -> tuple[str, list[str]]:
    """A run for the load, and those of the probes."""
    count = Settings.model_fields["partitions"].default
    load = f"bench-load-{uuid.uuid4().hex[:8]}"
    probes: list[str] = []
    for number in range(_PROBES):
        wanted = (partition_of(load, count) + number * count // _PROBES) % count
        run_id = ""
        while not run_id or partition_of(run_id, count) != wanted:
            run_id = f"bench-probe-{uuid.uuid4().hex[:8]}"
        probes.append(run_id)
    return load, probes


class _Probe:
    """One run, and a thread that logs to it."""

    def __init__(self, address: str, directory: Path, run_id: str, over: threading.Event) -> None:
        self.seconds: list[float] = []
        self.failures: list[Exception] = []
        self._address = address
        self._over = over
        self._step = 0
        self._run = tracker.init("bench-probe", run_id=run_id, server=address, directory=directory, capture=False)
        self._client = TrackerClient(address, timeout=_SECONDS)
        self.thread = threading.Thread(target=self._go_on)

    def once(self) -> float:
        """Logs a point, and returns how long it took until it was read."""
        step, value = self._step, 0.5 + self._step
        self._step += 1
        began = time.perf_counter()
        self._run.log({_METRIC: value}, step=step)
        while True:
            with suppress(NotFound):
                (series,) = self._client.get_metric_history(self._run.id, _METRIC, min_step=step)
                if len(series):
                    seconds = time.perf_counter() - began
                    assert series.values.tolist() == [value]
                    return seconds
            assert time.perf_counter() - began < _SECONDS, f"step {step} of {self._run.id} is not there"
            time.sleep(_POLL_SECONDS)

    def end(self) -> None:
        """Ends the run; raises AssertionError when not exactly its points are stored."""
        assert self._run.finish(timeout=_SECONDS)
        answer = self._client.get_run(self._run.id, write_tokens=[self._run.write_token])
        assert [metric.count for metric in answer.metrics] == [self._step]
        self._client.close()

    def _go_on(self) -> None:
        try:
            while not self._over.is_set():
                self.seconds.append(self.once())
                self._over.wait(_PAUSE_SECONDS)
        except Exception as error:  # noqa: BLE001  # raised by main, where it ends the process
            self.failures.append(error)


def main(address: str, directory: str, *run_ids: str) -> None:
    """The training process."""
    over = threading.Event()
    probes = [_Probe(address, Path(directory), run_id, over) for run_id in run_ids]
    for probe in probes:
        probe.once()
    print("ready", flush=True)
    sys.stdin.readline()
    for probe in probes:
        probe.thread.start()
    sys.stdin.readline()
    over.set()
    for probe in probes:
        probe.thread.join()
        for failure in probe.failures:
            raise failure
        probe.end()
    print(json.dumps([seconds for probe in probes for seconds in probe.seconds]))


if __name__ == "__main__":
    main(*sys.argv[1:])
