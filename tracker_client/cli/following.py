"""The points of a run that are new since the last look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tracker.v1.resources_pb2 import MetricSummary
from tracker.v1.tracker_service_pb2 import GetRunResponse
from tracker_client.client import TrackerClient

METRICS_PER_CALL = 100
"""As many as a server takes in one GetMetricHistory."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a metric."""

    metric: str
    step: int
    time_unix_ms: int
    value: float


@dataclass(slots=True)
class _Position:
    """Up to where a metric has been given."""

    step: int
    time_unix_ms: int
    """Of the last point given."""
    at_step: int | None
    """How many points of this step were given, in the order of the series; None: all up to this time."""
    count: int
    """How many points the metric had when it was looked at."""


class Follower:
    """Follows the metrics of a run. A point that arrives with a step below one that was given is not given."""

    def __init__(self, client: TrackerClient, run_id: str, metrics: Sequence[str] = ()) -> None:
        """metrics: only these; empty: all, also such as begin later."""
        self._client = client
        self._run_id = run_id
        self._metrics = frozenset(metrics)
        self._positions: dict[str, _Position] = {}

    def begin(self, found: GetRunResponse) -> Iterator[Point]:
        """The last point of each metric that the run has."""
        for metric in self._chosen(found):
            yield self._jump(metric)

    def advance(self, found: GetRunResponse) -> Iterator[Point]:
        """What has come since, metric by metric, ordered by step. Raises TrackerError; the next look then gives what
        this one did not.
        """
        grown: dict[int | None, list[MetricSummary]] = {}
        for metric in self._chosen(found):
            position = self._positions.get(metric.name)
            if position is not None and metric.last.step < position.step:
                # A newer attempt began below: what was given has been superseded.
                yield self._jump(metric)
            elif position is None or metric.count != position.count:
                grown.setdefault(None if position is None else position.step, []).append(metric)
        # Metrics that are logged together have come equally far, so one call serves many of them.
        for min_step, metrics in grown.items():
            for start in range(0, len(metrics), METRICS_PER_CALL):
                yield from self._read(metrics[start : start + METRICS_PER_CALL], min_step)

    def _chosen(self, found: GetRunResponse) -> list[MetricSummary]:
        return [
            metric
            for metric in found.metrics
            if metric.HasField("last") and (not self._metrics or metric.name in self._metrics)
        ]

    def _jump(self, metric: MetricSummary) -> Point:
        last = metric.last
        self._positions[metric.name] = _Position(last.step, last.time_unix_ms, None, metric.count)
        return Point(metric.name, last.step, last.time_unix_ms, last.value)

    def _read(self, metrics: Sequence[MetricSummary], min_step: int | None) -> Iterator[Point]:
        names = [metric.name for metric in metrics]
        # Points given of the step that each metric stands at; those are read again.
        seen = dict.fromkeys(names, 0)
        for series in self._client.iter_metric_history(self._run_id, names, min_step=min_step):
            for step, time, value in zip(series.steps, series.times_unix_ms, series.values, strict=True):
                position = self._positions.get(series.name)
                if position is not None and step == position.step:
                    seen[series.name] += 1
                    if position.at_step is None:
                        given = time <= position.time_unix_ms
                    else:
                        given = seen[series.name] <= position.at_step
                    if given:
                        continue
                else:
                    seen[series.name] = 1
                yield Point(series.name, step, time, value)
                count = 0 if position is None else position.count
                self._positions[series.name] = _Position(step, time, seen[series.name], count)
        for metric in metrics:
            if metric.name in self._positions:
                self._positions[metric.name].count = metric.count
