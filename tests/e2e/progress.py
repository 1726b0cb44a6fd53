"""One number that only grows, and readers that see whether it ever goes back."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Self

import grpc

from deploy.servers.processes import wait_until
from tests.e2e.load import Failure, call
from tests.e2e.processes import CHANNEL_OPTIONS
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1 import tracker_service_pb2_grpc as rpc


class Progress:
    """A run whose metric counts up: 1, 2, 3, ... Its experiment's summary has the newest number as its maximum."""

    def __init__(self, stub: rpc.TrackerServiceStub) -> None:
        self._stub = stub
        self.experiment_id = f"progress-{uuid.uuid4().hex[:8]}"
        self.run_id = f"{self.experiment_id}-run"
        self._writer = uuid.uuid4().hex
        self.number = 0
        self.token = ""
        """Of the newest write."""
        self.start_token: str = call(
            stub.StartRun, public.StartRunRequest(run_id=self.run_id, experiment_id=self.experiment_id)
        ).write_token

    def advance(self) -> str:
        """Logs the next number, as often as it takes. Returns the token."""
        self.number += 1
        request = public.LogMetricRequest(
            run_id=self.run_id,
            name="progress",
            value=self.number,
            step=self.number,
            writer_id=self._writer,
            sequence=self.number,
        )
        while True:
            try:
                self.token = call(self._stub.LogMetric, request).write_token
            except Failure as failure:
                if not failure.may_pass:
                    raise
                time.sleep(0.05)
            else:
                return self.token

    def stored(self) -> float:
        """The number as the database has it."""
        run = call(self._stub.GetRun, public.GetRunRequest(run_id=self.run_id))
        return max((metric.last.value for metric in run.metrics), default=0)

    def summarized(self) -> float:
        """The number as a reader of the summary gets it, who waits for nothing."""
        return read_summary(self._stub, self.experiment_id)

    def wait_summarized(self, seconds: float) -> None:
        """Returns when the summary has the newest number."""
        fresh = wait_until(lambda: self.summarized() == self.number, seconds, interval=0.05)
        assert fresh, f"the summary says {self.summarized()}, the database {self.stored()} of {self.number}"


class Watchers:
    """Readers of a progress's summary, each on a connection of its own."""

    def __init__(self, address: str, experiment_id: str, count: int) -> None:
        self._address = address
        self._experiment_id = experiment_id
        self._stop = threading.Event()
        self.reads = 0
        self.slowest = 0.0
        self.backward: list[str] = []
        """Numbers that went back."""
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._watch, daemon=True) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _watch(self) -> None:
        highest = 0.0
        with grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS) as channel:
            stub = rpc.TrackerServiceStub(channel)
            while not self._stop.wait(0.005):
                began = time.monotonic()
                try:
                    number = read_summary(stub, self._experiment_id)
                except Failure as failure:
                    self.failures.append(str(failure))
                    continue
                self.reads += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                if number < highest:
                    self.backward.append(f"{number} after {highest}")
                highest = max(highest, number)


def read_summary(stub: rpc.TrackerServiceStub, experiment_id: str) -> float:
    """The number in a summary; 0 while there is none."""
    answer = call(stub.GetSummary, public.GetSummaryRequest(experiment_id=experiment_id))
    return max((metric.max.value for metric in answer.metrics), default=0)
