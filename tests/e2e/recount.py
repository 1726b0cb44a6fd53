"""Reads everything back through the API and holds it against what was sent, point by point."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from deploy.servers.processes import wait_until
from tests.e2e.load import Load, call
from tests.e2e.written import Floats, Ints, Write
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1 import tracker_service_pb2_grpc as rpc

TOKENS = 100
"""A read takes at most."""
WAIT_SECONDS = 60.0
FRESH_SECONDS = 5.0
"""A cached summary is renewed within a second of a change; the rest is for a busy machine."""
NEWEST_RUNS = 10
Key = tuple[str, str]
"""Run, metric."""


@dataclass(frozen=True, slots=True)
class Points:
    """Of one series, in order."""

    steps: Ints
    times: Ints
    values: Floats

    def differences(self, found: Points) -> list[str]:
        """In what another series is not the same, bit by bit."""
        if len(self.steps) == len(found.steps) and all(
            np.array_equal(mine.view(np.int64), theirs.view(np.int64))
            for mine, theirs in ((self.steps, found.steps), (self.times, found.times), (self.values, found.values))
        ):
            return []
        said = [f"{len(found.steps)} points instead of {len(self.steps)}"]
        if np.any(np.diff(found.steps) < 0):
            said.append("not in step order")
        steps, counts = np.unique(found.steps, return_counts=True)
        said += [
            f"{what}: {len(some)}, such as steps {some[:5].tolist()}"
            for what, some in (
                ("lost", np.setdiff1d(self.steps, steps)),
                ("never sent", np.setdiff1d(steps, self.steps)),
                ("more than once", steps[counts > 1]),
            )
            if len(some)
        ]
        return said if len(said) > 1 else [*said, "another time or value"]


def recount(
    stub: rpc.TrackerServiceStub,
    load: Load,
    *,
    page_size: int = 0,
    complete: bool = True,
    seconds: float = WAIT_SECONDS,
) -> int:
    """Every acknowledged point there exactly once, nothing else there but whole writes whose fate is unknown; the
    totals and the summary as a plain recomputation has them. Returns how many points were counted.

    complete: every write was acknowledged; then all writers are closed, and the runs must be said to be complete.
    """
    writes = load.writes
    if complete:
        assert all(write.token for write in writes)
        wait_visible(stub, load.close_writers(stub), seconds)
    wait_visible(stub, [write.token for write in writes if write.token], seconds)
    names = sorted({name for write in writes for name in write.names})
    found = read_all(stub, load.run_ids, names, page_size)
    expected = expected_points(writes, found)
    assert not (problems := _problems(expected, found)), "\n".join(problems[:20])
    for run_id in load.run_ids:
        answer: public.GetRunResponse = call(stub.GetRun, public.GetRunRequest(run_id=run_id), 30)
        assert answer.completeness.complete or not complete, answer.completeness
        totals = {summary.name: summary for summary in answer.metrics}
        assert totals.keys() == {name for run, name in expected if run == run_id}
        for name, summary in totals.items():
            check_totals(summary, expected[run_id, name])
    token = next(write.token for write in writes if write.token)
    check_summary(fresh_summary(stub, load.experiment_id, token), load, expected)
    wait_cached_summary(stub, load.experiment_id, token)
    return sum(len(points.steps) for points in found.values())


def wait_visible(stub: rpc.TrackerServiceStub, tokens: Sequence[str], seconds: float = WAIT_SECONDS) -> None:
    """Returns when every write is applied."""
    for begin in range(0, len(tokens), TOKENS):
        request = public.GetDashboardStatsRequest(write_tokens=tokens[begin : begin + TOKENS])
        call(stub.GetDashboardStats, request, seconds)


def read_all(
    stub: rpc.TrackerServiceStub, run_ids: Sequence[str], names: Sequence[str], page_size: int = 0
) -> dict[Key, Points]:
    """Every point of these series, page by page."""
    parts: defaultdict[Key, list[resources.MetricSeries]] = defaultdict(list)
    request = public.GetMetricHistoryRequest(run_ids=run_ids, metrics=names, page_size=page_size)
    while True:
        page: public.GetMetricHistoryResponse = call(stub.GetMetricHistory, request, 30)
        for series in page.series:
            parts[series.run_id, series.name].append(series)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    found = {}
    for key, some in parts.items():
        points = Points(
            np.concatenate([np.array(part.steps, np.int64) for part in some]),
            np.concatenate([np.array(part.times_unix_ms, np.int64) for part in some]),
            np.concatenate([np.array(part.values, np.float64) for part in some]),
        )
        assert {part.total_points for part in some} == {len(points.steps)}, key
        found[key] = points
    return found


def expected_points(writes: Collection[Write], found: dict[Key, Points]) -> dict[Key, Points]:
    """What must be there: of writes whose fate is unknown, those of which anything is there."""
    present = {key: frozenset(points.steps.tolist()) for key, points in found.items()}
    parts: defaultdict[Key, list[Points]] = defaultdict(list)
    for write in writes:
        keys = [(write.run_id, name) for name in write.names]
        steps = write.steps.tolist()
        if write.token or any(present[key].intersection(steps) for key in keys):
            for key, values in zip(keys, write.values, strict=True):
                parts[key].append(Points(write.steps, write.times, values))
    return {key: _in_order(some) for key, some in parts.items()}


def check_totals(summary: resources.MetricSummary, points: Points) -> None:
    """A series' totals against a plain recomputation."""
    values = points.values.tolist()
    finite = [(value, step) for value, step in zip(values, points.steps.tolist(), strict=True) if math.isfinite(value)]
    assert (summary.count, summary.finite_count) == (len(values), len(finite)), summary
    assert summary.last.step == points.steps[-1]
    assert summary.last.time_unix_ms == points.times[-1]
    assert same(summary.last.value, values[-1]), summary
    assert summary.HasField("min") == summary.HasField("max") == summary.HasField("mean") == bool(finite)
    if finite:
        smallest, largest = min(value for value, _ in finite), max(value for value, _ in finite)
        assert (summary.min.value, summary.min.step) == min(one for one in finite if one[0] == smallest), summary
        assert (summary.max.value, summary.max.step) == min(one for one in finite if one[0] == largest), summary
        check_mean(summary.mean, [value for value, _ in finite])


def check_summary(answer: public.GetSummaryResponse, load: Load, expected: dict[Key, Points]) -> None:
    """An experiment's summary against a plain recomputation over the runs' last values."""
    assert answer.experiment.run_count == len(load.run_ids), answer
    counts = {count.status: count.count for count in answer.run_counts}
    assert counts == {resources.RUN_STATUS_RUNNING: len(load.run_ids)}
    newest = [run.run_id for run in answer.newest_runs]
    assert len(newest) == len(set(newest)) == min(NEWEST_RUNS, len(load.run_ids))
    assert set(newest) <= set(load.run_ids)
    created = [run.created_at.ToNanoseconds() for run in answer.newest_runs]
    assert created == sorted(created, reverse=True)
    lasts: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (run_id, name), points in expected.items():
        lasts[name][run_id] = float(points.values[-1])
    assert [metric.name for metric in answer.metrics] == sorted(lasts)
    for metric in answer.metrics:
        finite = {run_id: value for run_id, value in lasts[metric.name].items() if math.isfinite(value)}
        assert metric.run_count == len(lasts[metric.name]), metric
        assert metric.non_finite_run_count == len(lasts[metric.name]) - len(finite), metric
        assert metric.HasField("mean") == bool(finite)
        if finite:
            smallest = min((value, run_id) for run_id, value in finite.items())
            largest = min((-value, run_id) for run_id, value in finite.items())
            assert (metric.min.value, metric.min.run_id) == smallest, metric
            assert (-metric.max.value, metric.max.run_id) == largest, metric
            check_mean(metric.mean, list(finite.values()))


def check_mean(mean: float, values: Sequence[float]) -> None:
    """A mean, as exactly as doubles added in any order allow."""
    # Exactly: a quarter of the smallest double is 0 as a double.
    exact = [Fraction(value) for value in values]
    right = sum(exact, Fraction()) / len(exact)
    scale = sum((abs(value) for value in exact), Fraction())
    allowed = Fraction(1e-12) * scale + Fraction(math.ulp(0.0))
    assert abs(Fraction(mean) - right) <= allowed, (mean, float(right))


def fresh_summary(stub: rpc.TrackerServiceStub, experiment_id: str, token: str) -> public.GetSummaryResponse:
    """As the database has it: a token makes the read go past the cache."""
    request = public.GetSummaryRequest(experiment_id=experiment_id, write_tokens=[token])
    answer: public.GetSummaryResponse = call(stub.GetSummary, request, 30)
    answer.ClearField("as_of")
    return answer


def wait_cached_summary(stub: rpc.TrackerServiceStub, experiment_id: str, token: str) -> None:
    """Returns when readers who wait for nothing get what the database has: far sooner than a cached answer expires."""
    fresh = fresh_summary(stub, experiment_id, token)
    request = public.GetSummaryRequest(experiment_id=experiment_id)

    def is_fresh() -> bool:
        answer = call(stub.GetSummary, request)
        answer.ClearField("as_of")
        return bool(answer == fresh)

    assert wait_until(is_fresh, FRESH_SECONDS, interval=0.05), "a stale summary is served"


def same(one: float, other: float) -> bool:
    """Whether two doubles are the same, NaN, -0.0 and all."""
    return np.float64(one).view(np.int64) == np.float64(other).view(np.int64)  # type: ignore[no-any-return]


def _in_order(parts: Sequence[Points]) -> Points:
    steps = np.concatenate([part.steps for part in parts])
    order = np.argsort(steps, kind="stable")
    times = np.concatenate([part.times for part in parts])[order]
    return Points(steps[order], times, np.concatenate([part.values for part in parts])[order])


def _problems(expected: dict[Key, Points], found: dict[Key, Points]) -> list[str]:
    problems = []
    for key, points in found.items():
        if key not in expected:
            if len(points.steps):
                problems.append(f"{key}: {len(points.steps)} points that nobody sent")
            continue
        problems += [f"{key}: {difference}" for difference in expected[key].differences(points)]
    problems += [f"{key}: the series is missing" for key in expected.keys() - found.keys()]
    return problems
