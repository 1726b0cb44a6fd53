"""Callers that log known points at the same time, retry as a careful client does, and note what was acknowledged."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from deploy.servers.processes import wait_until
from tests.e2e.processes import CHANNEL_OPTIONS
from tests.e2e.written import Pen, Write
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1 import tracker_service_pb2_grpc as rpc

CALL_SECONDS = 5.0
JOIN_SECONDS = 60.0
_LONGEST_PAUSE = 0.25
"""Retries come sooner than asked for: the tests are in a hurry, and the server has to bear it."""
_SINGLES_EVERY = 5
_REPEATS_EVERY = 11


class Failure(Exception):
    """What a call was answered with instead."""

    def __init__(self, error: Any) -> None:
        super().__init__(f"{error.code().name}: {error.details()}")
        self.code: grpc.StatusCode = error.code()
        self.details: str = error.details()
        self.reason = ""
        self.retry_after: float | None = None
        self.violations: list[str] = []
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                self.reason = info.reason
            elif detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToNanoseconds() / 1e9

    @property
    def may_pass(self) -> bool:
        """Whether a careful client sends the same again."""
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self.retry_after is not None
        return self.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def call(method: Any, request: Any, timeout: float = CALL_SECONDS) -> Any:
    """The answer. Raises Failure."""
    try:
        return method(request, timeout=timeout)
    except grpc.RpcError as error:
        raise Failure(error) from None


class Load:
    """Callers in threads. Each has a connection, and in each run a writer, of its own."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        callers: int = 4,
        runs: int = 3,
        metrics: int = 3,
        rows: int = 20,
        writes: int | None = None,
        pause: float = 0.0,
        experiment: str | None = None,
    ) -> None:
        """writes: how many each caller makes, None: until stopped; pause: seconds after each."""
        mark = uuid.uuid4().hex[:8]
        self.experiment_id = experiment or f"load-{mark}"
        self.run_ids = [f"run-{mark}-{number}" for number in range(runs)]
        self.addresses = list(addresses)
        self.pause = pause
        self.failures: Counter[tuple[str, str]] = Counter()
        """(code, reason) of what was retried."""
        self.slowest_failure = 0.0
        """Seconds that the slowest failed call took."""
        self.stranger: list[str] = []
        """Answers that a careful client may not be given."""
        self._starter = uuid.uuid4().hex
        self._rows = rows
        self._writes = writes
        self._metrics = metrics
        self._stop = threading.Event()
        self._give_up = threading.Event()
        self._made: list[list[Write]] = [[] for _ in range(callers)]
        self._pens = [
            [Pen(run_id, number, lane, callers, metrics) for number, run_id in enumerate(self.run_ids)]
            for lane in range(callers)
        ]
        self._threads = [
            threading.Thread(target=self._call, args=(lane,), name=f"caller {lane}", daemon=True)
            for lane in range(callers)
        ]

    def __enter__(self) -> Self:
        with self._channel(0) as channel:
            stub = rpc.TrackerServiceStub(channel)
            for run_id in self.run_ids:
                request = public.StartRunRequest(
                    run_id=run_id, experiment_id=self.experiment_id, writer_id=self._starter, sequence=1
                )
                call(stub.StartRun, request, timeout=20)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._give_up.set()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    @property
    def writes(self) -> list[Write]:
        """All that were made so far."""
        return [write for made in self._made for write in tuple(made)]

    @property
    def acknowledged(self) -> int:
        """How many writes."""
        return sum(bool(write.token) for write in self.writes)

    def wait_acknowledged(self, more: int, seconds: float = 60.0) -> None:
        """Returns when so many more writes are acknowledged than now."""
        goal = self.acknowledged + more
        assert wait_until(lambda: self.acknowledged >= goal or not self._alive(), seconds), (
            f"{goal - self.acknowledged} of {more} writes not acknowledged within {seconds} s; "
            f"retried: {dict(self.failures)}, {self.stranger}"
        )

    def acknowledged_between(self, begin: float, end: float) -> int:
        """How many writes, by time.monotonic()."""
        return sum(bool(write.token) and begin <= write.acknowledged_at < end for write in self.writes)

    def finish(self, seconds: float = JOIN_SECONDS) -> list[Write]:
        """Waits until every caller has made its writes (or, without a number, asks them to make no more), and until
        each write is acknowledged, retried as often as it takes. Returns all of them."""
        if self._writes is None:
            self._stop.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = self._alive()
        self._give_up.set()
        for thread in self._threads:
            thread.join(CALL_SECONDS + 5)
        assert not self.stranger, self.stranger[:5]
        assert not late, f"{late} callers still retry after {seconds} s: {dict(self.failures)}"
        return self.writes

    def give_up(self) -> list[Write]:
        """Has the callers make no more writes, and retry none. What was not acknowledged is unknown."""
        self._stop.set()
        self._give_up.set()
        for thread in self._threads:
            thread.join(CALL_SECONDS + 5)
        assert not self.stranger, self.stranger[:5]
        return self.writes

    def close_writers(self, stub: rpc.TrackerServiceStub) -> list[str]:
        """Says each writer's last sequence. Returns the tokens."""
        writers = [(pen.run_id, pen.writer_id, pen.sequence) for pens in self._pens for pen in pens]
        writers += [(run_id, self._starter, 1) for run_id in self.run_ids]
        requests = [
            public.CloseWriterRequest(run_id=run_id, writer_id=writer_id, last_sequence=sequence)
            for run_id, writer_id, sequence in writers
        ]
        return [call(stub.CloseWriter, request).write_token for request in requests]

    def _alive(self) -> int:
        return sum(thread.is_alive() for thread in self._threads)

    def _channel(self, number: int) -> grpc.Channel:
        return grpc.insecure_channel(self.addresses[number % len(self.addresses)], options=CHANNEL_OPTIONS)

    def _call(self, lane: int) -> None:
        channels = [self._channel(number) for number in range(len(self.addresses))]
        stubs = [rpc.TrackerServiceStub(channel) for channel in channels]
        dice = random.Random(lane)
        made = self._made[lane]
        pens = self._pens[lane]
        turn = lane
        while not self._stop.is_set() and (self._writes is None or len(made) < self._writes):
            count = len(made) + 1
            write = pens[count % len(pens)].write(self._rows, single=count % _SINGLES_EVERY == 0)
            made.append(write)
            turn = self._send(stubs, turn, write, dice)
            if write.token and count % _REPEATS_EVERY == 0:
                # As if the acknowledgement had been lost: it must count once all the same.
                self._send(stubs, turn + 1, write, dice, once=True)
            if self.pause:
                self._stop.wait(self.pause * dice.uniform(0.5, 1.5))
        for channel in channels:
            channel.close()

    def _send(
        self,
        stubs: Sequence[rpc.TrackerServiceStub],
        turn: int,
        write: Write,
        dice: random.Random,
        *,
        once: bool = False,
    ) -> int:
        """Sends until it is acknowledged, to another server after each failure."""
        request = write.request()
        while True:
            stub = stubs[turn % len(stubs)]
            began = time.monotonic()
            write.sent += 1
            try:
                answer = call(stub.LogMetric if write.single else stub.LogMetrics, request)
            except Failure as failure:
                self.slowest_failure = max(self.slowest_failure, time.monotonic() - began)
                self.failures[failure.code.name, failure.reason] += 1
                if not failure.may_pass:
                    self.stranger.append(f"{failure} {failure.reason} (write {write.sequence} of {write.run_id})")
                    return turn
                if once or self._give_up.wait(min(failure.retry_after or 0.1, _LONGEST_PAUSE) * dice.uniform(0.5, 1)):
                    return turn
                turn += 1
            else:
                if not write.token:
                    write.acknowledged_at = time.monotonic()
                    write.token = answer.write_token
                return turn
