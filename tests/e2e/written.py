"""What callers send, and what became of it: the truth that the tracker's answers are held against."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as public

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

FIRST_TIME_MS = 1_700_000_000_000
_SPECIAL = {13: np.nan, 29: np.inf, 31: -np.inf, 37: -0.0, 41: 5e-324, 43: 1e308}
_SPECIAL_EVERY = 61


def values_of(run: int, metric: int, steps: Ints) -> Floats:
    """The values that belong to these steps: different for each run, metric and step, and some of them special."""
    values = (steps + 1) / (metric + 3) + run * 1e6
    for remainder, value in _SPECIAL.items():
        values[steps % _SPECIAL_EVERY == remainder] = value
    return values


def times_of(steps: Ints) -> Ints:
    """The times that belong to these steps."""
    return FIRST_TIME_MS + steps * 7


@dataclass(slots=True)
class Write:
    """One write with points."""

    run_id: str
    writer_id: str
    sequence: int
    names: tuple[str, ...]
    steps: Ints
    times: Ints
    values: Floats
    """A row per metric."""
    single: bool = False
    """By LogMetric."""
    sent: int = 0
    """How often."""
    token: str = ""
    """Empty until it is acknowledged."""
    acknowledged_at: float = 0.0
    """time.monotonic()."""

    @property
    def points(self) -> int:
        """How many it has."""
        return int(self.values.size)

    def request(self) -> public.LogMetricsRequest | public.LogMetricRequest:
        """As it goes over the wire."""
        if not self.single:
            columns = [
                resources.MetricColumn(name=name, values=row.tolist())
                for name, row in zip(self.names, self.values, strict=True)
            ]
            block = resources.MetricBlock(steps=self.steps.tolist(), times_unix_ms=self.times.tolist(), columns=columns)
            return public.LogMetricsRequest(
                run_id=self.run_id, writer_id=self.writer_id, sequence=self.sequence, blocks=[block]
            )
        request = public.LogMetricRequest(
            run_id=self.run_id,
            writer_id=self.writer_id,
            sequence=self.sequence,
            name=self.names[0],
            step=int(self.steps[0]),
            value=float(self.values[0, 0]),
        )
        request.timestamp.FromMilliseconds(int(self.times[0]))
        return request


@dataclass(slots=True)
class Pen:
    """One writer of one run: its next sequence and its next row. Several pens of a run interleave their steps."""

    run_id: str
    run: int
    lane: int
    lanes: int
    metrics: int
    writer_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    sequence: int = 0
    row: int = 0

    def write(self, rows: int, *, single: bool) -> Write:
        """Its next one."""
        self.sequence += 1
        rows = 1 if single else rows
        steps = np.arange(self.row, self.row + rows, dtype=np.int64) * self.lanes + self.lane
        self.row += rows
        numbers = [self.sequence % self.metrics] if single else list(range(self.metrics))
        values = np.array([values_of(self.run, number, steps) for number in numbers])
        names = tuple(metric_name(number) for number in numbers)
        return Write(self.run_id, self.writer_id, self.sequence, names, steps, times_of(steps), values, single)


def metric_name(number: int) -> str:
    """Of a load's metrics."""
    return f"metric/{number}"
