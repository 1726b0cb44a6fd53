"""What a purge costs the ingest beside it: points a second, and memory of the consumer that does both."""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from benchmarks import ingest
from benchmarks.forms import Form, other_consumer
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client import TrackerClient
from tracker_client.errors import NotFound

_TURNS = 3
_MIB = 1024 * 1024
_FINISHED = "purged"
"""Event in the consumer's log."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a purge."""

    rate_alone: float
    """Points a second, until readable, without one."""
    rate_beside: float
    """Points a second beside it."""
    mib_alone: float
    """The most memory that the consumer took, without it."""
    mib_beside: float
    """The most memory beside it."""
    seconds: float
    """How long a purge took."""


def measure(form: Form, purged: int, points: int) -> Cost:
    """Three times over: stores a run of so many points, and others of `points` each: two without a purge, then some beside
    the purge of the first, until that is done."""
    with other_consumer(form, restore_days="0", purge_seconds="0.1"):
        turns = [_turn(form, purged, points) for _ in range(_TURNS)]
    return Cost(
        _rate([rate for turn in turns for rate in turn.alone]),
        _rate([rate for turn in turns for rate in turn.beside]),
        max(turn.mib_alone for turn in turns),
        max(turn.mib_beside for turn in turns),
        statistics.median(turn.seconds for turn in turns),
    )


@dataclass(frozen=True, slots=True)
class _Turn:
    alone: list[float]
    beside: list[float]
    mib_alone: float
    mib_beside: float
    seconds: float


def _turn(form: Form, purged: int, points: int) -> _Turn:
    consumer = form.deployment.trackers[-1]
    run_id = f"bench-purged-{uuid.uuid4().hex[:8]}"
    ingest.fill(form, run_id, 10, 1_000, purged)
    with _memory(consumer.pid) as alone:
        rates_alone = [ingest.measure(form, 10, 1_000, points).readable for _ in range(2)]
    with _memory(consumer.pid) as beside, TrackerClient(form.address) as client:
        before = consumer.log.count(_FINISHED)
        began = time.perf_counter()
        client.delete_run(messages.DeleteRunRequest(run_id=run_id))
        _await_purge(client, run_id)
        rates: list[float] = []
        seconds = 0.0
        while not seconds:
            rates.append(ingest.measure(form, 10, 1_000, points).readable)
            if consumer.log.count(_FINISHED) > before:
                seconds = time.perf_counter() - began
    return _Turn(rates_alone, rates, alone.most, beside.most, seconds)


@dataclass(slots=True)
class _Memory:
    most: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)


@contextmanager
def _memory(pid: int) -> Iterator[_Memory]:
    """Looks at a process's memory all the while."""
    seen, process = _Memory(), psutil.Process(pid)

    def look() -> None:
        while not seen.done.wait(0.02):
            seen.most = max(seen.most, process.memory_info().rss / _MIB)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        seen.done.set()
        thread.join()


def _rate(rates: list[float]) -> float:
    """Of several stretches of as many points each."""
    return len(rates) / sum(1 / rate for rate in rates)


def _await_purge(client: TrackerClient, run_id: str) -> None:
    """Returns once the purge has begun."""
    while True:
        try:
            client.get_run(run_id)
        except NotFound as error:
            if "is purged" in str(error):
                return
        time.sleep(0.01)
