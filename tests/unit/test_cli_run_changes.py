"""The lines of `tracker runs --watch` for people, and which updates get one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tracker.v1.resources_pb2 import (
    RUN_STATUS_COMPLETED,
    RUN_STATUS_RUNNING,
    MetricPoint,
    MetricSummary,
    Run,
    RunUpdate,
)
from tracker.v1.tracker_service_pb2 import WatchRunsResponse
from tracker_client.cli import output
from tracker_client.cli.run_changes import IDS_A_CALL, Chosen, hidden, print_changes

MOMENT = Timestamp(seconds=1_700_000_000)


def _update(run_id: str, *metrics: MetricSummary) -> RunUpdate:
    return RunUpdate(run=Run(run_id=run_id, status=RUN_STATUS_RUNNING), metrics=metrics)


def test_a_terminal_gets_a_line_with_the_last_values_and_nothing_that_controls_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TZ", "UTC")
    metrics = [
        MetricSummary(name="a\x1b[2Jb", last=MetricPoint(step=1_200, value=0.5), final_value=0.25),
        *(MetricSummary(name=f"metric-{number}", last=MetricPoint(step=number, value=1.0)) for number in range(20)),
    ]
    ended = RunUpdate(run=Run(run_id="two", status=RUN_STATUS_COMPLETED))
    answer = WatchRunsResponse(updates=[_update("one", *metrics), ended], as_of=MOMENT)
    print_changes([answer], None, lambda _: [], as_json=False)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("22:13:20  one  running    step 1,200     a\\x1b[2Jb 0.25")
    assert len(first) <= 60
    assert second.split() == ["22:13:20", "two", "completed"]


@pytest.mark.parametrize(
    ("update", "word"),
    [
        (RunUpdate(run=Run(run_id="r", status=RUN_STATUS_RUNNING)), ""),
        (RunUpdate(run=Run(run_id="r", status=RUN_STATUS_RUNNING, deleted_at=MOMENT)), "deleted"),
        (RunUpdate(run=Run(run_id="r", status=RUN_STATUS_RUNNING), experiment_deleted_at=MOMENT), "deleted"),
        (RunUpdate(run=Run(run_id="r", deleted_at=MOMENT)), "purged"),
    ],
)
def test_what_is_out_of_sight_is_said_so(update: RunUpdate, word: str) -> None:
    assert hidden(update) == word


def test_who_meets_the_conditions_is_looked_up_a_few_at_a_time() -> None:
    looked_up: list[int] = []

    def find(run_ids: Sequence[str]) -> Iterator[Run]:
        looked_up.append(len(run_ids))
        return iter([Run(run_id=run_id) for run_id in run_ids if run_id.endswith("7")])

    updates = [_update(f"run-{number}") for number in range(IDS_A_CALL + 20)]
    chosen = Chosen(["run-1"], find)
    assert {update.run.run_id for update in chosen.of(updates)} == {"run-1", *(f"run-{n}7" for n in ["", *range(1, 7)])}
    assert looked_up == [IDS_A_CALL, 20]
    assert "run-1" not in {update.run.run_id for update in chosen.of(updates)}
