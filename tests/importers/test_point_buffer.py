"""How points are cut into requests."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.v1.tracker_service_pb2 import LogMetricsRequest
from tracker_client.importers.point_buffer import MAX_BYTES, PointBuffer
from tracker_client.importers.records import Points, RunStart
from tracker_client.importers.report import Tally
from tracker_client.importers.requests import Experiments, Writer, make_requests

WRITER = Writer("r" * 128, Experiments("", ""), True, "name", "w" * 128, 2**62, {})


def requests_of(*points: Points) -> list[LogMetricsRequest]:
    """The requests that points become."""
    made = list(make_requests([RunStart(0), *points], WRITER, Tally("path")))[1:]
    return [request for request in made if isinstance(request, LogMetricsRequest)]


def fill(buffer: PointBuffer, name: str, count: int) -> list[Points]:
    """Adds points; returns what had to be taken meanwhile."""
    taken: list[Points] = []
    for step in range(count):
        buffer.add(name, step, step, float(step))
        if buffer.full:
            taken += buffer.take()
    return taken


def test_a_full_buffer_makes_one_request_of_at_most_1_mib() -> None:
    buffer = PointBuffer("path", 0)
    (points,) = fill(buffer, "loss", 43_600)
    (request,) = requests_of(points)
    assert 0.9 * MAX_BYTES < request.ByteSize() <= MAX_BYTES


def test_many_long_names_make_requests_of_at_most_1_mib_too() -> None:
    buffer = PointBuffer("path", 0)
    taken: list[Points] = []
    for number in range(3_000):
        taken += fill(buffer, f"{number:06}" + "\N{GRINNING FACE}" * 250, 1)
    taken += buffer.take()
    requests = requests_of(*taken)
    assert len(requests) > 2
    assert max(request.ByteSize() for request in requests) <= MAX_BYTES
    assert sum(len(block.columns) for request in requests for block in request.blocks) == 3_000


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.integers(-(2**63), 2**63 - 1),
            st.none() | st.integers(0, 9),
            st.floats(),
        )
    ),
    st.integers(1, 7),
)
@settings(max_examples=50)
def test_every_point_comes_out_once_in_the_order_of_its_series(
    points: list[tuple[str, int, int | None, float]], every: int
) -> None:
    buffer = PointBuffer("path", 42)
    taken: list[Points] = []
    for number, point in enumerate(points):
        buffer.add(*point)
        if number % every == 0:
            taken += buffer.take()
    taken += buffer.take()
    for name in ("a", "b", "c"):
        given_points = [(s, 42 if t is None else t, repr(v)) for n, s, t, v in points if n == name]
        got = [
            (step, time, repr(value))
            for one in taken
            for block in one.blocks
            if name in block.columns
            for step, time, value in zip(block.steps, block.times_ms, block.columns[name], strict=True)
        ]
        assert got == given_points


def test_metrics_of_the_same_moments_share_a_block() -> None:
    buffer = PointBuffer("path", 0)
    for step in range(3):
        for name in ("a", "b"):
            buffer.add(name, step, step, math.nan)
    buffer.add("c", 0, 0, 1.0)
    (points,) = buffer.take()
    assert [sorted(block.columns) for block in points.blocks] == [["a", "b"], ["c"]]


def test_names_and_steps_that_no_server_takes_are_told_of_once_with_their_count() -> None:
    buffer = PointBuffer("path", 0)
    for name in ("x" * 257, "new\nline", "", "\ud800", "good"):
        for step in (1, 2, 2**63):
            buffer.add(name, step, None, 1.0)
    (points,) = buffer.take()
    assert [list(block.columns) for block in points.blocks] == [["good"]]
    told = [str(problem) for problem in buffer.problems()]
    assert len(told) == 5
    assert sum("3 points left out" in text for text in told) == 4
    assert "64 bits; 1 points left out" in told[-1]
