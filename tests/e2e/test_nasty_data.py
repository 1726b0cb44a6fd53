"""Legal but nasty data through the whole way, in both forms: stored and read back exactly."""

import math
import uuid
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.e2e.deployment import Deployment
from tests.e2e.load import call
from tests.e2e.recount import read_all, same
from tests.e2e.typed import Value, from_config, same_values, to_config
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as public

YEAR_1_MS = -62_135_596_800_000
YEAR_9999_MS = 253_402_300_799_999
FAR = 2**62
NAN, INF = math.nan, math.inf
LONGEST_NAME = "😀" * 256

SERIES: dict[str, list[tuple[int, int, float]]] = {
    "twice 1e308": [(0, 0, 1e308), (1, 1, 1e308)],
    "opposite 1e308": [(0, 0, 1e308), (1, 1, -1e308), (2, 2, 1.0)],
    "NaN first": [(0, 0, NAN), (1, 1, 2.0), (2, 2, -3.0)],
    "NaN last": [(0, 0, 2.0), (1, 1, NAN)],
    "NaN alone": [(0, 0, NAN)],
    "infinities": [(0, 0, INF), (1, 1, -INF), (2, 2, 0.5)],
    "zeros": [(0, 0, 0.0), (1, 1, -0.0), (2, 2, 0.0)],
    "smallest": [(0, 0, 5e-324), (1, 1, -5e-324)],
    "far steps": [(-FAR, 0, 1.0), (FAR, 1, 2.0)],
    "farthest steps": [(-(2**63), 0, 1.0), (0, 0, 3.0), (2**63 - 1, 1, 2.0)],
    "all of time": [(0, YEAR_1_MS, 1.0), (1, YEAR_9999_MS, 2.0)],
    "one step": [(7, time, float(time)) for time in range(10)],
    LONGEST_NAME: [(0, 0, 1.0)],
    "'; DROP TABLE runs; -- \\ % {} $$": [(0, 0, 1.0)],
    " \u202e\u0301é ": [(0, 0, 1.0)],
}
"""Step, time, value of each point, in the order that they are to be read in."""

NASTY: dict[str, Value] = {
    "none": None,
    "yes": True,
    "no": False,
    "one": 1,
    "four": 4,
    "four.0": 4.0,
    "2^53 + 1": 2**53 + 1,
    "largest": 2**63 - 1,
    "smallest": -(2**63),
    "1e300": 1e300,
    "1e16": 1e16,
    "tiny": 5e-324,
    "minus zero": -0.0,
    "nan": NAN,
    "inf": INF,
    "-inf": -INF,
    "third": 1 / 3,
    "text": "",
    "unicode": "naïve 😀 \u202e \\ ' \" \n \x01 {} null",
    "list": [1, 1.0, "1", None, True, [], [[NAN]], {}],
    "empty": {},
    "empty list": [],
    "optimizer": {"name": "adam", "betas": [0.9, 0.999], "schedule": {"warm up": {"steps": 1000, "from": 0.0}}},
    "😀" * 256: "a long key",
    "$double": {"$double": "nan", "$map": {"$": 1}},
    "a.b": {"c.d": 1},
}


@pytest.mark.timeout(120)
def test_nasty_points_are_read_back_exactly_and_add_up(calm: Deployment) -> None:
    """Extreme values, steps, times and names, in one request and point by point in a second run, are read back bit by bit
    and in order; the totals are those of the finite values."""
    stub = calm.stub()
    together, apart = f"nasty-{uuid.uuid4().hex}", f"nasty-{uuid.uuid4().hex}"
    blocks = [
        resources.MetricBlock(
            steps=[step for step, _, _ in points],
            times_unix_ms=[time for _, time, _ in points],
            columns=[resources.MetricColumn(name=name, values=[value for _, _, value in points])],
        )
        for name, points in SERIES.items()
    ]
    tokens = {together: [call(stub.LogMetrics, public.LogMetricsRequest(run_id=together, blocks=blocks)).write_token]}
    tokens[apart] = []
    for name, points in reversed(SERIES.items()):
        for step, time, value in reversed(points):
            request = public.LogMetricRequest(run_id=apart, name=name, step=step, value=value, timestamp=stamp(time))
            tokens[apart].append(call(stub.LogMetric, request).write_token)
    for run_id in (together, apart):
        answer = call(stub.GetRun, public.GetRunRequest(run_id=run_id, write_tokens=tokens[run_id][-100:]), 30)
        found = read_all(stub, [run_id], list(SERIES))
        totals = {summary.name: summary for summary in answer.metrics}
        assert totals.keys() == SERIES.keys()
        for name, points in SERIES.items():
            series = found[run_id, name]
            read = list(zip(series.steps.tolist(), series.times.tolist(), series.values.tolist(), strict=True))
            assert [point[:2] for point in read] == [point[:2] for point in points], name
            assert all(same(mine[2], theirs[2]) for mine, theirs in zip(points, read, strict=True)), (name, read)
            check_totals(totals[name], points)


@pytest.mark.timeout(60)
def test_a_config_comes_back_as_the_same_python_values(calm: Deployment) -> None:
    """StartRun with a nested config of every type; the dict that GetRun returns is the same, types and all. UpdateRun then
    replaces one key, removes one, adds one, and leaves the rest as it was."""
    stub = calm.stub()
    run_id = f"config-{uuid.uuid4().hex}"
    config = to_config(NASTY)
    token = call(stub.StartRun, public.StartRunRequest(run_id=run_id, config=config)).write_token
    assert same_values(read_config(stub, run_id, token), NASTY)

    changed: dict[str, Value] = {"four": 4.0, "new": {"deep": [None, {}]}}
    request = public.UpdateRunRequest(run_id=run_id, changes=public.RunChanges(config=to_config(changed)))
    request.update_mask.paths.extend(["config.four", "config.new", "config.none"])
    token = call(stub.UpdateRun, request).write_token
    wanted = {key: value for key, value in NASTY.items() if key != "none"} | changed
    assert same_values(read_config(stub, run_id, token), wanted)


@pytest.mark.timeout(60)
def test_a_completion_carries_all_of_its_parts(calm: Deployment) -> None:
    """RunCompleted with final metrics (NaN among them), artifacts, metadata and a time of its own: GetRun returns each, and
    the summary takes the final metric in place of the last value."""
    stub = calm.stub()
    run_id = f"completed-{uuid.uuid4().hex}"
    call(stub.LogMetric, public.LogMetricRequest(run_id=run_id, name="accuracy", value=0.5))
    request = public.RunCompletedRequest(
        run_id=run_id,
        experiment_id=run_id,
        status=resources.RUN_STATUS_FAILED,
        final_metrics={"accuracy": 0.75, "loss": NAN, "bound": -INF, "zero": -0.0},
        artifacts={"model": "s3://bucket/ключ?x=1", "😀": ""},
        metadata={"gpu_type": "A100", "framework": "torch\n2"},
        timestamp=Timestamp(seconds=1_600_000_000, nanos=250_000_000),
    )
    token = call(stub.RunCompleted, request).write_token
    answer = call(stub.GetRun, public.GetRunRequest(run_id=run_id, write_tokens=[token]), 30)
    run = answer.run
    assert run.status == resources.RUN_STATUS_FAILED
    assert run.experiment_id == run_id
    assert run.ended_at == request.timestamp
    assert dict(run.artifacts) == dict(request.artifacts)
    assert dict(run.metadata) == dict(request.metadata)
    assert run.final_metrics.keys() == request.final_metrics.keys()
    assert all(same(run.final_metrics[name], value) for name, value in request.final_metrics.items())
    summary = call(stub.GetSummary, public.GetSummaryRequest(experiment_id=run_id, write_tokens=[token]), 30)
    values = {metric.name: metric for metric in summary.metrics}
    assert values["accuracy"].max.value == 0.75
    assert values["loss"].non_finite_run_count == 1


def read_config(stub: Any, run_id: str, token: str) -> dict[str, Value]:
    """A run's config as Python values."""
    answer = call(stub.GetRun, public.GetRunRequest(run_id=run_id, write_tokens=[token]), 30)
    return from_config(answer.run.config)


def check_totals(summary: resources.MetricSummary, points: list[tuple[int, int, float]]) -> None:
    """Against a plain recomputation."""
    finite = [(value, step) for step, _, value in points if math.isfinite(value)]
    assert (summary.count, summary.finite_count) == (len(points), len(finite)), summary
    step, time, value = points[-1]
    assert (summary.last.step, summary.last.time_unix_ms) == (step, time), summary
    assert same(summary.last.value, value), summary
    assert summary.HasField("mean") == bool(finite)
    if finite:
        # -0.0 counts as smaller than 0.0.
        smallest = min(finite, key=lambda one: (one[0], math.copysign(1, one[0]), one[1]))
        largest = min(finite, key=lambda one: (-one[0], -math.copysign(1, one[0]), one[1]))
        assert same(summary.min.value, smallest[0]), summary
        assert same(summary.max.value, largest[0]), summary
        assert (summary.min.step, summary.max.step) == (smallest[1], largest[1]), summary
        mean = math.fsum(value / len(finite) for value, _ in finite)
        assert math.isclose(summary.mean, mean, rel_tol=1e-12), (summary, mean)


def stamp(milliseconds: int) -> Timestamp:
    """A point in time."""
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)
