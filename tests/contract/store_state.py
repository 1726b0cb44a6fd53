"""Everything that can be read of some runs and experiments, as plain values that compare. NaN equals NaN here, and
-0.0 differs from 0.0: doubles are compared by what `repr` says."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from tracker_server.errors import ExperimentNotFound, RunNotFound
from tracker_server.model.records import AcrossRuns, Position, RunDetails, SeriesPart
from tracker_server.model.totals import Totals
from tracker_server.store.history_reader import HistoryQuery
from tracker_server.store.point_reader import StepRange
from tracker_server.store.store import Store
from tracker_server.store.tables import series

ALL_STEPS = StepRange()
_PAGE = 1_000_000


@dataclass(frozen=True)
class Near:
    """A sum, exact but for rounding: equal to another within 1e-9 of what was added up."""

    value: float
    magnitude: float

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Near):
            return NotImplemented
        room = 1e-9 * max(self.magnitude, other.magnitude, 5e-324)
        return self.value == other.value or abs(self.value - other.value) <= room

    __hash__ = None  # type: ignore[assignment]  # nearness is no equivalence


def read_state(store: Store, runs: Iterable[str], experiments: Iterable[str]) -> dict[str, Any]:
    """The state of these runs and experiments; unknown ones are None."""
    return {
        "runs": {run: read_run(store, run) for run in sorted(runs)},
        "experiments": {experiment: read_summary(store, experiment) for experiment in sorted(experiments)},
    }


def read_run(store: Store, run_id: str) -> dict[str, Any] | None:
    """A run with everything in it."""
    try:
        details = store.read_run(run_id, "", _PAGE)
    except RunNotFound:
        return None
    names = [metric.name for metric in details.metrics]
    history = read_all(store, run_id, names)
    return {
        "run": vars_of(details.run),
        "attempts": [vars_of(attempt) for attempt in details.attempts],
        "metrics": {
            metric.name: totals_of(metric.totals, history[metric.name]) | {"final": repr(metric.final)}
            for metric in details.metrics
        },
        "history": history,
        "by_attempt": {attempt.attempt: read_attempt(store, run_id, attempt.attempt) for attempt in details.attempts},
        "writers": writers_of(details),
        "complete": details.complete,
    }


def writers_of(details: RunDetails) -> dict[str, Any]:
    """What is known of the writers of a run."""
    return {
        writer.writer_id: {
            "applied": str(writer.applied),
            "dead": str(writer.dead),
            "final": writer.final_sequence,
            "dropped": writer.dropped_points,
        }
        for writer in details.writers
    }


def totals_of(totals: Totals, history: list[tuple[int, int, str]]) -> dict[str, Any]:
    """Totals as plain values."""
    finite = [abs(float(value)) for _, _, value in history if math.isfinite(float(value))]
    return {
        "count": totals.count,
        "finite": totals.finite_count,
        "last": repr(totals.last and tuple(totals.last)),
        "min": repr(totals.min and tuple(totals.min)),
        "max": repr(totals.max and tuple(totals.max)),
        "sum": Near(totals.sum, math.fsum(value for value in finite if value <= 1e290)),
        "huge_sum": Near(totals.huge_sum, math.fsum(value * 2.0**-128 for value in finite if value > 1e290)),
    }


def read_all(store: Store, run_id: str, names: list[str]) -> dict[str, list[tuple[int, int, str]]]:
    """Step, time and value of every live point of each metric."""
    page = store.read_history(HistoryQuery([run_id], names, ALL_STEPS, 0, _PAGE), Position())
    assert page.following is None
    history = {}
    for part in page.parts:
        history[part.name] = points_of(part)
        assert part.total_points == len(part.steps)
        assert not part.downsampled
    return history


def read_attempt(store: Store, run_id: str, attempt: int) -> dict[str, list[tuple[int, int, str]]]:
    """Every point of an attempt, superseded or not, of each metric that has some."""
    with store._reader.connect() as connection:
        names = list(connection.execute(select(series.c.name).where(series.c.run_id == run_id)).scalars())
    query = HistoryQuery([run_id], names, ALL_STEPS, 0, _PAGE, attempt)
    parts = store.read_history(query, Position()).parts
    assert all(part.total_points == len(part.steps) for part in parts)
    return {part.name: points_of(part) for part in parts if len(part.steps)}


def read_series(store: Store, run_id: str, name: str) -> SeriesPart:
    """One series, whole."""
    (part,) = store.read_history(HistoryQuery([run_id], [name], ALL_STEPS, 0, _PAGE), Position()).parts
    return part


def points_of(part: SeriesPart) -> list[tuple[int, int, str]]:
    """Step, time and value of each point."""
    values = [repr(value) for value in part.values.tolist()]
    return list(zip(part.steps.tolist(), part.times.tolist(), values, strict=True))


def read_summary(store: Store, experiment_id: str) -> dict[str, Any] | None:
    """An experiment at a glance."""
    try:
        summary = store.summarize(experiment_id, "", _PAGE)
    except ExperimentNotFound:
        return None
    return {
        "experiment": vars_of(summary.experiment),
        "counts": dict(summary.run_counts),
        "metrics": {metric.name: across_of(metric) for metric in summary.metrics},
        "newest": [run.run_id for run in summary.newest_runs],
    }


def across_of(metric: AcrossRuns) -> dict[str, Any]:
    """One metric over the runs. The sign of a zero is lost in databases' own minimum and maximum."""
    magnitude = max((abs(extreme[0]) for extreme in (metric.min, metric.max) if extreme), default=0.0)
    return {
        "runs": metric.run_count,
        "non_finite": metric.non_finite_run_count,
        "min": metric.min,
        "max": metric.max,
        "mean": None if metric.mean is None else Near(metric.mean, magnitude),
    }


def vars_of(record: object) -> Mapping[str, Any]:
    """A frozen dataclass as a dictionary."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}  # type: ignore[attr-defined]
