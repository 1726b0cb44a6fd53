"""What `make bench-peers` concludes from what its drivers answer, without any other tracker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import measure, venvs, work
from benchmarks.peers.__main__ import chosen
from benchmarks.peers.driver import Target
from benchmarks.peers.report import report
from benchmarks.peers.results import Result, evaluate, ratio
from benchmarks.peers.trackers import TRACKERS, Way

_WAY = Way("log", "log()", long=True)


def _result(*answers: dict[str, Any], ours: bool = False, name: str = "peer") -> Result:
    return evaluate(Result(name, name, "log", "log()", ours, {}), answers)


def _bulk(found: int = 1_000, seconds: float = 0.5) -> list[dict[str, Any]]:
    return [
        {"task": "bulk", "run": "bulk", "points": 1_000, "seconds": seconds, "bytes": 8_000},
        {"task": "count", "run": "bulk", "points": 1_000, "found": found},
    ]


def test_rate_and_bytes_come_from_the_bulk_load() -> None:
    result = _result(*_bulk())
    assert result.figures == {"bulk": 2_000, "bytes": 8}
    assert result.verified


def test_a_rate_whose_points_are_not_all_there_is_no_rate() -> None:
    result = _result(*_bulk(found=999))
    assert result.figures == {}
    assert result.missing["bulk"] == "999 of 1,000 points were read back"
    assert not result.verified


def test_nothing_read_back_is_not_verified() -> None:
    assert not _result(_bulk()[0]).verified


def test_a_history_with_wrong_points_is_no_figure() -> None:
    right = {"task": "history", "run": "history", "median": 0.1, "points": 10, "found": 10}
    assert _result(right).figures == {"history": 0.1}
    wrong = _result({**right, "found": 9})
    assert wrong.figures == {}
    assert wrong.missing == {"history": "9 of 10 points were right"}


@pytest.mark.parametrize("key", ["error", "not_offered"])
def test_the_reason_stands_where_the_figure_would(key: str) -> None:
    result = _result({"task": "summary", "run": "bulk", key: "there is none"})
    assert result.missing == {"summary": "there is none"}
    assert "no a run's summary: there is none" in report([result], work.QUICK, 0.0)


def test_points_that_come_back_by_recovery_are_not_lost_and_are_told_of() -> None:
    killed = {"task": "count_killed", "run": "kill", "points": 100, "found": 40}
    assert _result(killed).figures == {"lost": 60}
    recovered = _result({**killed, "recovery": "`sync`", "found_then": 100})
    assert recovered.figures == {"lost": 0}
    assert recovered.recovered == "60 of them only after `sync`"


def test_ratios_say_how_many_times_better_ours_is() -> None:
    ours, peer = _result(*_bulk(seconds=0.1), ours=True), _result(*_bulk(seconds=1.0))
    peer.figures["bytes"] = 80
    assert ratio("bulk", ours, peer) == pytest.approx(10)
    assert ratio("bytes", ours, peer) == pytest.approx(10)
    assert ratio("history", ours, peer) is None


def test_the_table_has_every_tracker_and_holds_peers_against_ours() -> None:
    ours = _result(*_bulk(seconds=0.1), ours=True, name="ours")
    failed = Result("gone", "gone", "log", "log()", False, {}, missing={"": "not installed: no such version"})
    text = report([ours, _result(*_bulk(seconds=1.0)), failed], work.QUICK, 0.0)
    assert "| ours | log | 10,000 |" in text
    assert "| peer | log | 1,000 |" in text
    assert "| peer | log | 10 |" in text
    assert "| gone | log | none | none |" in text
    assert "no figures: not installed: no such version" in text


def test_right_points_counts_each_step_once_and_only_with_its_value() -> None:
    values = [work.value(2, step) for step in (0, 1, 1)]
    assert work.right_points(2, [0, 1, 1], values) == 2
    assert work.right_points(2, [0, 1], [values[0], values[1] + 0.01]) == 1
    assert work.right_points(2, [], []) == 0


def test_no_two_points_have_one_value() -> None:
    values = {work.value(metric, step) for metric in range(10) for step in range(100)}
    assert len(values) == 1_000
    assert all(0 <= value < 1 for value in values)


def test_a_training_loop_keeps_to_its_rate() -> None:
    logged: list[tuple[int, dict[str, float]]] = []
    took = work.training_loop(lambda step, values: logged.append((step, values)), 2, 0.05, steps_a_second=100)
    assert 1 <= len(took) <= 6
    assert logged[0] == (0, {"metric/0": work.value(0, 0), "metric/1": work.value(1, 0)})


def test_call_times_leave_out_the_start() -> None:
    times = work.call_times([9.0] * 10 + [1.0] * 89 + [2.0])
    assert (times.calls, times.median, times.p99) == (90, 1.0, 2.0)


def test_reads_count_the_steps_that_were_logged() -> None:
    written: list[dict[str, Any]] = [
        {"task": "bulk", "run": "log.bulk", "points": 10_000},
        {"task": "loop", "run": "log.loop-1", "points": 7, "steps": 7},
        {"task": "bulk", "run": "log.long", "error": "not done within 1 s"},
        {"task": "kill", "run": "log.kill", "steps": 9},
    ]
    tasks = measure.read_tasks(work.QUICK, _WAY, written)
    assert [(task["task"], task["run"], task["steps"]) for task in tasks] == [
        ("count_killed", "kill", 9),
        ("summary", "bulk", 1_000),
        ("count", "bulk", 1_000),
        ("count", "loop-1", 7),
    ]


def test_a_driver_that_cannot_be_imported_gives_a_reason_for_each_task(tmp_path: Path) -> None:
    tasks = measure.write_tasks(work.QUICK, _WAY)
    answers = measure.drive_tasks(Path(sys.executable), "no_such", Target(str(tmp_path)), tasks, {}, 30)
    assert [answer["run"] for answer in answers] == [task["run"] for task in tasks]
    assert all("no_such" in answer["error"] for answer in answers)


def test_what_comes_after_the_time_is_over_is_said_so(tmp_path: Path) -> None:
    tasks = measure.kill_tasks()
    (answer,) = measure.drive_tasks(Path(sys.executable), "no_such", Target(str(tmp_path)), tasks, {}, 0)
    assert answer["error"] == "not measured: the time was over"


def test_only_names_are_checked_and_ours_is_always_measured() -> None:
    assert [one.key for one in chosen(["mlflow"])] == ["full", "mlflow-sqlite", "mlflow-postgresql"]
    assert [one.key for one in chosen(["embedded", "aim"])] == ["embedded", "aim"]
    assert chosen([]) == list(TRACKERS)
    with pytest.raises(ValueError, match="it must be one of full, embedded, trackio"):
        chosen(["neptune"])


def test_an_environment_of_other_requirements_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str]) -> str:
        commands.append(command)
        if "venv" in command:
            (tmp_path / "e").mkdir()
        return '{"aim": "3.29.1"}'

    monkeypatch.setattr(venvs, "_run", run)
    assert venvs.ensure(tmp_path / "e", ["aim>=3.29"]).versions == {"aim": "3.29.1"}
    assert len(commands) == 3
    venvs.ensure(tmp_path / "e", ["aim>=3.29"])
    assert len(commands) == 4
    venvs.ensure(tmp_path / "e", ["aim>=3.30"])
    assert len(commands) == 7


def test_an_installation_that_fails_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str]) -> str:
        if "pip" in command:
            raise venvs.NotInstalled("no such version")
        (tmp_path / "e").mkdir(exist_ok=True)
        return "{}"

    monkeypatch.setattr(venvs, "_run", run)
    for _ in range(2):
        with pytest.raises(venvs.NotInstalled):
            venvs.ensure(tmp_path / "e", ["aim>=3.29"])


@pytest.mark.parametrize(
    ("requirement", "name"), [("mlflow>=3.17", "mlflow"), ("a-b[c]~=1", "a-b"), ("psycopg2-binary", "psycopg2-binary")]
)
def test_package_of_a_requirement(requirement: str, name: str) -> None:
    assert venvs.package(requirement) == name
