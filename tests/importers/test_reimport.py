"""Imports that are interrupted, and sources that change: nothing is counted twice, nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import pytest

from tests.importers.faulty_client import FaultyClient, LostError
from tests.importers.reading import shown
from tests.importers.stub_client import StubClient
from tracker.v1.resources_pb2 import MetricBlock, MetricColumn
from tracker.v1.tracker_service_pb2 import LogMetricsRequest, LogMetricsResponse
from tracker_client.importers import ImportClient, ImportReport, Outcome, import_paths, point_buffer

Rows = Sequence[tuple[int, float]]
ROWS: Rows = [(step, 1 / (step + 1)) for step in range(200)]


@pytest.fixture
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few points, so that little data makes many requests."""
    monkeypatch.setattr(
        point_buffer, "MAX_BYTES", point_buffer._RESERVED_BYTES + 4 * point_buffer.MAX_NAME_LENGTH + 900
    )


def write(path: Path, rows: Rows, *, changed_s: int = 1_700_000_000, metric: str = "loss") -> None:
    """A log with these rows, changed last at that second."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"step,{metric}\n" + "".join(f"{step},{value!r}\n" for step, value in rows))
    os.utime(path, (changed_s, changed_s))


def imported(client: ImportClient, path: Path) -> ImportReport:
    """The report of an import."""
    return import_paths([path], client=client)


def assert_shows(client: StubClient, report: ImportReport, rows: Rows) -> None:
    """The run has exactly these points, and its totals say so too."""
    (source,) = report.sources
    run = client.get_run(source.run_id)
    assert shown(client, source.run_id) == {"loss": list(rows)}
    (metric,) = run.metrics
    assert metric.count == len(rows)
    assert (metric.last.step, metric.last.value) == rows[-1]
    assert metric.max.value == max(value for _, value in rows)
    assert run.completeness.complete, run.completeness


@pytest.mark.usefixtures("small_requests")
@pytest.mark.parametrize("last_is_made", [False, True], ids=["refused", "answer lost"])
def test_an_import_interrupted_at_any_call_goes_on_where_it_ended(
    client: StubClient, tmp_path: Path, last_is_made: bool
) -> None:
    writes = 0
    while True:
        path = tmp_path / f"after{writes}" / "metrics.csv"
        write(path, ROWS)
        try:
            report = imported(FaultyClient(client, writes, last_is_made=last_is_made), path)
        except LostError:
            # Copied meanwhile, as by a backup: the bytes are the same, the time is not.
            os.utime(path, (1_800_000_000, 1_800_000_000))
            report = imported(client, path)
            assert_shows(client, report, ROWS)
            assert report.outcomes.keys() <= {Outcome.IMPORTED, Outcome.RESUMED, Outcome.ALREADY_THERE}
            writes += 1
            continue
        break
    assert writes > 8
    assert_shows(client, report, ROWS)


@pytest.mark.usefixtures("small_requests")
def test_what_has_arrived_is_not_sent_again(client: StubClient, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write(path, ROWS)
    with pytest.raises(LostError):
        imported(FaultyClient(client, 6), path)
    (source,) = imported(client, path).sources
    assert source.outcome == Outcome.RESUMED
    assert source.requests_skipped >= 4


@pytest.mark.usefixtures("small_requests")
def test_a_request_that_was_lost_before_a_later_one_arrived_is_sent(client: StubClient, tmp_path: Path) -> None:
    class Losing(FaultyClient):
        """Loses sequence 4, once 5 has arrived."""

        arrived = Event()

        def log_metrics(self, request: LogMetricsRequest, *, timeout: float | None = None) -> LogMetricsResponse:
            if request.sequence == 4:
                assert self.arrived.wait(20)
                raise LostError
            answer = super().log_metrics(request, timeout=timeout)
            if request.sequence == 5:
                self.arrived.set()
            return answer

    path = tmp_path / "metrics.csv"
    write(path, ROWS)
    with pytest.raises(LostError):
        imported(Losing(client, writes=1_000), path)
    report = imported(client, path)
    assert report.outcomes == {Outcome.RESUMED: 1}
    assert_shows(client, report, ROWS)


CHANGES: dict[str, Rows] = {
    "grew": [*ROWS, *((step, 0.5) for step in range(200, 300))],
    "grew by repeated steps": [*ROWS, *((199, 0.25 * n) for n in range(5))],
    "lost its end": ROWS[:50],
    "lost all but its first row": ROWS[:1],
    "lost rows in the middle": [*ROWS[:20], *ROWS[150:]],
    "was corrected": [(step, value * 2) for step, value in ROWS],
    "was thinned out": ROWS[::7],
    "begins earlier": [(-5, 3.0), *ROWS],
}


@pytest.mark.usefixtures("small_requests")
@pytest.mark.parametrize("later_s", [60, 0, -60], ids=["newer", "of the same time", "older"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_source_that_changed_is_shown_as_it_is_now(
    client: StubClient, tmp_path: Path, change: str, later_s: int
) -> None:
    path = tmp_path / "metrics.csv"
    write(path, ROWS)
    assert_shows(client, imported(client, path), ROWS)
    write(path, CHANGES[change], changed_s=1_700_000_000 + later_s)
    report = imported(client, path)
    assert report.outcomes == {Outcome.UPDATED: 1}
    assert not report.all_problems
    assert_shows(client, report, CHANGES[change])
    assert imported(client, path).outcomes == {Outcome.ALREADY_THERE: 1}


def test_a_source_that_becomes_what_it_was_is_shown_so(client: StubClient, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for rows in (ROWS, ROWS[:50], ROWS):
        write(path, rows)
        assert_shows(client, imported(client, path), rows)


@pytest.mark.usefixtures("small_requests")
@pytest.mark.parametrize("last_is_made", [False, True], ids=["refused", "answer lost"])
def test_a_source_that_changes_while_its_import_is_interrupted_is_complete_in_the_end(
    client: StubClient, tmp_path: Path, last_is_made: bool
) -> None:
    for writes in range(8):
        path = tmp_path / f"after{writes}" / "metrics.csv"
        write(path, ROWS)
        with pytest.raises(LostError):
            imported(FaultyClient(client, writes, last_is_made=last_is_made), path)
        grown = [*ROWS, (200, 7.0)]
        write(path, grown, changed_s=1_700_000_060)
        assert_shows(client, imported(client, path), grown)


@pytest.mark.usefixtures("small_requests")
def test_an_update_that_is_interrupted_goes_on_where_it_ended(client: StubClient, tmp_path: Path) -> None:
    for writes in range(8):
        path = tmp_path / f"after{writes}" / "metrics.csv"
        write(path, ROWS)
        imported(client, path)
        write(path, CHANGES["was corrected"], changed_s=1_700_000_060)
        with pytest.raises(LostError):
            imported(FaultyClient(client, writes), path)
        assert_shows(client, imported(client, path), CHANGES["was corrected"])


def test_points_before_the_first_step_that_is_left_stay_and_are_told_of(client: StubClient, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write(path, ROWS)
    imported(client, path)
    kept = [(step, 0.125) for step in range(150, 250)]
    write(path, kept, changed_s=1_700_000_060)
    report = imported(client, path)
    # As of a log that was rotated: what it began with is not lost, and nothing is there twice.
    assert_shows(client, report, [*ROWS[:150], *kept])
    (problem,) = report.all_problems
    assert "150 points of the earlier import stay" in problem.what


def test_a_metric_that_the_source_has_no_more_stays_and_is_told_of(client: StubClient, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write(path, ROWS)
    imported(client, path)
    write(path, ROWS, metric="accuracy", changed_s=1_700_000_060)
    report = imported(client, path)
    assert shown(client, report.sources[0].run_id).keys() == {"loss", "accuracy"}
    (problem,) = report.all_problems
    assert problem.where == "metric 'loss'"


def test_a_run_that_went_on_after_its_import_is_not_set_back(client: StubClient, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write(path, ROWS)
    (source,) = imported(client, path).sources
    # A job resumed it, after the log was last written to.
    block = MetricBlock(steps=[100, 101], columns=[MetricColumn(name="loss", values=[5.0, 6.0])])
    client.log_metrics(LogMetricsRequest(run_id=source.run_id, attempt=1_700_000_999_000, blocks=[block]))
    write(path, ROWS[:150], changed_s=1_700_000_060)
    imported(client, path)
    assert shown(client, source.run_id)["loss"] == [*ROWS[:100], (100, 5.0), (101, 6.0)]
