"""The work that every tracker is given. It runs in each tracker's own environment: nothing but the standard library."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

METRICS: Final = 10
"""Of a step of the bulk load."""
BATCH_POINTS: Final = 1_000
"""Points a request, where a client makes its own requests: what MLflow's log_batch takes at most."""
STEPS_A_SECOND: Final = 1_000
"""Of the training loop in which log calls are timed."""
_64_BITS: Final = 2**64 - 1
_TOLERANCE: Final = 1e-6
"""TensorBoard stores 32-bit floats."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much of it."""

    bulk_steps: int
    """Of METRICS metrics each."""
    long_steps: int
    """The same for trackers that are through with bulk_steps in a second or two."""
    history_steps: int
    """Points of the one metric whose history is read."""
    seconds: float
    """Of each training loop, and of each repeated read."""
    budget_seconds: float
    """For all of it; what is not measured by then is reported so."""


KILLED_AFTER_SECONDS: Final = 2.0
"""How long a training loop runs before its process is killed."""
FULL: Final = Work(10_000, 100_000, 100_000, 3.0, 800.0)
QUICK: Final = Work(1_000, 20_000, 5_000, 0.5, 170.0)


@dataclass(frozen=True, slots=True)
class CallTimes:
    """Of log calls in a training loop, in seconds."""

    calls: int
    median: float
    p99: float


def names(metrics: int) -> list[str]:
    """Of so many metrics."""
    return [f"metric/{number}" for number in range(metrics)]


def value(metric: int, step: int) -> float:
    """Of a point, from 0 to 1: as noisy as measured numbers are, so that no store can compress it away."""
    mixed = (step * 0x9E3779B97F4A7C15 + metric * 0xBF58476D1CE4E5B9 + 1) & _64_BITS
    mixed = ((mixed ^ (mixed >> 30)) * 0x94D049BB133111EB) & _64_BITS
    return (mixed >> 11) / 2.0**53


def row(step: int, metrics: int) -> dict[str, float]:
    """What one log call is given."""
    return {f"metric/{metric}": value(metric, step) for metric in range(metrics)}


def right_points(metric: int, steps: Iterable[int], values: Iterable[float]) -> int:
    """How many different steps were read back with the value that was logged for them."""
    pairs = zip(steps, values, strict=True)
    right = {
        int(step)
        for step, got in pairs
        if math.isclose(got, value(metric, int(step)), rel_tol=_TOLERANCE, abs_tol=1e-6)
    }
    return len(right)


def training_loop(
    log: Callable[[int, dict[str, float]], None], metrics: int, seconds: float, steps_a_second: int = STEPS_A_SECOND
) -> list[float]:
    """Calls `log` at most so many times a second; returns how long each call took, in seconds."""
    took: list[float] = []
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        step = len(took)
        due = began + step / steps_a_second
        if due > now:
            time.sleep(due - now)
        values = row(step, metrics)
        before = time.perf_counter()
        log(step, values)
        took.append(time.perf_counter() - before)
    return took


def call_times(took: list[float]) -> CallTimes:
    """Their median and 99th percentile; those of the first tenth are left out, since clients start threads in them."""
    settled = sorted(took[len(took) // 10 :])
    return CallTimes(len(settled), settled[len(settled) // 2], settled[min(len(settled) - 1, int(len(settled) * 0.99))])


def median_seconds(read: Callable[[], object], seconds: float, least: int = 3) -> tuple[float, int]:
    """Repeats a read for so long, at least so often; returns the median time and how often."""
    took: list[float] = []
    began = time.perf_counter()
    while len(took) < least or time.perf_counter() < began + seconds:
        before = time.perf_counter()
        read()
        took.append(time.perf_counter() - before)
    took.sort()
    return took[len(took) // 2], len(took)
