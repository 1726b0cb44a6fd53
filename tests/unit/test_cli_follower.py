"""What `tracker tail` takes for new: every point once, also of a step that goes on, of late metrics, after a resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from tracker.v1.resources_pb2 import MetricPoint, MetricSeries, MetricSummary
from tracker.v1.tracker_service_pb2 import GetRunResponse
from tracker_client.cli.following import Follower, Point
from tracker_client.client import TrackerClient
from tracker_client.errors import Unavailable

Points = list[tuple[int, int, float]]


class _Server:
    """A run in memory: per metric its points (step, time, value), read as a server gives them, in pages of two."""

    def __init__(self) -> None:
        self.metrics: dict[str, Points] = {}
        self.calls: list[tuple[list[str], int | None]] = []
        self.fails_after: int | None = None

    def log(self, name: str, *points: tuple[int, int, float]) -> GetRunResponse:
        self.metrics.setdefault(name, []).extend(points)
        return self.run()

    def run(self) -> GetRunResponse:
        summaries = []
        for name, points in sorted(self.metrics.items()):
            step, time, value = max(points, key=lambda point: point[:2])
            last = MetricPoint(step=step, time_unix_ms=time, value=value)
            summaries.append(MetricSummary(name=name, count=len(points), last=last))
        return GetRunResponse(metrics=summaries)

    def iter_metric_history(self, _: str, names: list[str], *, min_step: int | None) -> Iterator[MetricSeries]:
        self.calls.append((names, min_step))
        pages = 0
        for name in names:
            points = sorted(self.metrics[name], key=lambda point: point[:2])
            points = [point for point in points if min_step is None or point[0] >= min_step]
            for start in range(0, len(points), 2):
                if pages == self.fails_after:
                    raise Unavailable("away", code="UNAVAILABLE")
                pages += 1
                steps, times, values = zip(*points[start : start + 2], strict=True)
                yield MetricSeries(name=name, steps=steps, times_unix_ms=times, values=values)


@pytest.fixture
def server() -> _Server:
    return _Server()


def _follower(server: _Server, *metrics: str) -> Follower:
    return Follower(cast(TrackerClient, server), "run", metrics)


def _given(points: Iterator[Point]) -> list[tuple[str, int, float]]:
    return [(point.metric, point.step, point.value) for point in points]


def test_begins_with_the_last_point_and_no_history(server: _Server) -> None:
    found = server.log("loss", (0, 1, 1.0), (5, 2, 0.5), (3, 3, 0.7))
    assert _given(_follower(server).begin(found)) == [("loss", 5, 0.5)]
    assert server.calls == []


def test_gives_each_new_point_once(server: _Server) -> None:
    follower = _follower(server)
    _given(follower.begin(server.log("loss", (0, 1, 1.0))))
    assert _given(follower.advance(server.log("loss", (1, 2, 0.5), (2, 3, 0.4), (3, 4, 0.3)))) == [
        ("loss", 1, 0.5),
        ("loss", 2, 0.4),
        ("loss", 3, 0.3),
    ]
    assert _given(follower.advance(server.run())) == []
    assert _given(follower.advance(server.log("loss", (3, 4, 0.2), (3, 4, 0.1)))) == [
        ("loss", 3, 0.2),
        ("loss", 3, 0.1),
    ]
    assert server.calls == [(["loss"], 0), (["loss"], 3)]


def test_a_step_that_goes_on_after_the_beginning(server: _Server) -> None:
    follower = _follower(server)
    _given(follower.begin(server.log("loss", (0, 1, 3.0), (0, 2, 2.0))))
    assert _given(follower.advance(server.log("loss", (0, 3, 1.0)))) == [("loss", 0, 1.0)]


def test_a_metric_that_begins_later_is_given_from_its_start(server: _Server) -> None:
    follower = _follower(server)
    _given(follower.begin(server.log("loss", (100, 1, 1.0))))
    server.log("acc", (0, 5, 0.1), (0, 5, 0.2), (50, 6, 0.3))
    found = server.log("loss", (101, 2, 0.9))
    assert sorted(_given(follower.advance(found))) == [
        ("acc", 0, 0.1),
        ("acc", 0, 0.2),
        ("acc", 50, 0.3),
        ("loss", 101, 0.9),
    ]


def test_metrics_that_stand_at_one_step_share_a_call(server: _Server) -> None:
    follower = _follower(server)
    for name in ("a", "b"):
        server.log(name, (10, 1, 1.0))
    _given(follower.begin(server.log("c", (1_000, 1, 1.0))))
    for name in ("a", "b", "c"):
        server.log(name, (2_000, 2, 2.0))
    assert len(_given(follower.advance(server.run()))) == 3
    assert server.calls == [(["a", "b"], 10), (["c"], 1_000)]


def test_only_the_metrics_asked_for(server: _Server) -> None:
    server.log("loss", (0, 1, 1.0))
    found = server.log("acc", (0, 1, 0.5))
    assert _given(_follower(server, "acc", "to come").begin(found)) == [("acc", 0, 0.5)]


def test_a_newer_attempt_that_began_below_is_followed(server: _Server) -> None:
    follower = _follower(server)
    _given(follower.begin(server.log("loss", (100, 1, 1.0))))
    server.metrics["loss"] = [(60, 9, 0.6)]
    assert _given(follower.advance(server.run())) == [("loss", 60, 0.6)]
    assert _given(follower.advance(server.log("loss", (61, 10, 0.5)))) == [("loss", 61, 0.5)]


def test_after_an_error_nothing_is_lost_and_nothing_repeated(server: _Server) -> None:
    follower = _follower(server)
    _given(follower.begin(server.log("loss", (0, 1, 1.0))))
    found = server.log("loss", *((step, step + 1, 0.5) for step in range(1, 6)))
    server.fails_after = 1
    steps: list[int] = []
    with pytest.raises(Unavailable):
        steps.extend(point.step for point in follower.advance(found))
    assert steps == [1]
    server.fails_after = None
    steps.extend(point.step for point in follower.advance(found))
    assert steps == [1, 2, 3, 4, 5]
