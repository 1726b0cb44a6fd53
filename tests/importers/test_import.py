"""`import_paths` against a tracker: what goes in, what is told, and that a second time changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.importers.faulty_client import FaultyClient, LostError
from tests.importers.reading import read_all, shown
from tests.importers.stub_client import StubClient, StubError
from tests.importers.test_tensorboard import write_v1
from tests.importers.test_trainer_state import write_state
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import RunStatus
from tracker_client import from_config
from tracker_client.importers import CsvMapping, ImportProgress, Outcome, csv_log, import_paths


@pytest.fixture
def logs(tmp_path: Path, mlruns: Path, wandb_folder: Path) -> Path:
    """A folder with runs of every format."""
    root = tmp_path / "my logs"
    write_v1(root / "board", range(20))
    write_state(root / "trainer", 30)
    (root / "lightning").mkdir()
    (root / "lightning" / "metrics.csv").write_text("epoch,step,loss\n0,9,0.5\n1,19,0.25\n")
    (root / "metrics.json").write_text('{"iteration": 1, "loss": 0.5}\n')
    (root / "mlruns").symlink_to(mlruns)
    (root / "wandb").symlink_to(wandb_folder)
    return root


def test_runs_of_every_format_arrive_as_their_readers_give_them(client: StubClient, logs: Path) -> None:
    paths = [logs, logs / "mlruns", logs / "wandb"]
    report = import_paths(paths, client=client)
    assert {source.format for source in report.sources} == {
        "tensorboard",
        "trainer_state",
        "csv",
        "jsonl",
        "mlflow",
        "wandb",
    }
    assert set(report.outcomes) == {Outcome.IMPORTED}
    expected = {read.source.run_id: read for path in paths for read in read_all(path)}
    for source in report.sources:
        read = expected[source.run_id]
        run = client.get_run(source.run_id)
        in_order = {name: sorted(points, key=lambda point: point[0]) for name, points in read.series.items()}
        assert repr(shown(client, source.run_id)) == repr(dict(sorted(in_order.items()))), source
        assert run.completeness.complete, source
        assert from_config(run.run.config).items() >= read.config.items()
        assert run.run.started_at.ToMilliseconds() == read.start.started_ms
        wanted = RunStatus.RUN_STATUS_RUNNING if read.end is None else read.end.status
        assert run.run.status == wanted
        assert source.points == sum(map(len, read.series.values()))
        assert run.run.metadata["import.format"] == source.format


def test_the_second_time_nothing_is_sent(client: StubClient, logs: Path) -> None:
    first = import_paths([logs], client=client)
    before = [client.get_run(source.run_id) for source in first.sources]
    second = import_paths([logs], client=FaultyClient(client, writes=0))
    assert set(second.outcomes) == {Outcome.ALREADY_THERE}
    assert [source.run_id for source in second.sources] == [source.run_id for source in first.sources]
    after = [client.get_run(source.run_id) for source in second.sources]
    assert [run.run for run in before] == [run.run for run in after]


def test_experiments_are_those_of_the_source_the_folder_or_the_user(
    client: StubClient, logs: Path, mlruns: Path
) -> None:
    by_folder = import_paths([logs], client=None, dry_run=True)
    assert len({source.experiment_id for source in by_folder.sources}) == 1
    assert by_folder.sources[0].experiment_id.startswith("my-logs-")
    by_source = import_paths([mlruns, logs / "wandb"], client=None, dry_run=True)
    names = {source.experiment_id.rpartition("-")[0] for source in by_source.sources}
    assert names == {"my-experiment", "My-project"}
    for number, path in enumerate((logs / "board", mlruns, logs / "wandb")):
        for source in import_paths([path], client=client, experiment=f"mine{number}").sources:
            # A run that is there already keeps the experiment that it went into first.
            assert client.get_run(source.run_id).run.experiment_id == source.experiment_id
            assert source.experiment_id == f"mine{number}" or source.outcome == Outcome.ALREADY_THERE


def test_a_dry_run_reads_everything_and_sends_nothing(client: StubClient, logs: Path) -> None:
    report = import_paths([logs], client=FaultyClient(client, writes=0), dry_run=True)
    assert set(report.outcomes) == {Outcome.FOUND}
    assert report.points == sum(len(p) for read in read_all(logs) for p in read.series.values())
    (table,) = (source for source in report.sources if source.format == "csv")
    assert table.columns == CsvMapping("step", "", ("epoch", "loss"), ())
    with pytest.raises(StubError):
        client.get_run(table.run_id)


def test_only_the_wanted_formats_are_imported(logs: Path) -> None:
    report = import_paths([logs], client=None, dry_run=True, formats=["csv", "jsonl"])
    assert [source.format for source in report.sources] == ["jsonl", "csv"]
    with pytest.raises(ValueError, match=r"no format 'tfevents'; there are tensorboard, mlflow"):
        import_paths([logs], client=None, dry_run=True, formats=["tfevents"])


def test_bad_files_are_named_and_the_rest_goes_in(client: StubClient, tmp_path: Path) -> None:
    write_state(tmp_path / "good", 3)
    broken = write_state(tmp_path / "broken", 3)
    broken.write_text(broken.read_text()[:30])
    (tmp_path / "run-x.wandb").write_bytes(b"no such thing")
    report = import_paths([tmp_path, tmp_path / "missing"], client=client)
    assert report.outcomes == {Outcome.IMPORTED: 1, Outcome.FAILED: 1}
    told = {problem.path for problem in report.all_problems}
    assert told == {str(broken), str(tmp_path / "run-x.wandb"), str(tmp_path / "missing")}


def test_a_reader_that_breaks_costs_only_its_run(
    client: StubClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(text: str) -> None:
        raise ZeroDivisionError(text)

    write_state(tmp_path / "good", 3)
    (tmp_path / "metrics.csv").write_text("step,loss\n1,2\n")
    monkeypatch.setattr(csv_log, "parse_step", break_down)
    report = import_paths([tmp_path], client=client)
    assert report.outcomes == {Outcome.IMPORTED: 1, Outcome.FAILED: 1}
    assert "cannot be read as csv: ZeroDivisionError" in report.all_problems[0].what


def test_paths_that_are_no_text_are_imported_too(client: StubClient, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    write_state(Path(os.fsdecode(folder)), 3)
    report = import_paths([os.fsdecode(folder)], client=client)
    assert report.outcomes == {Outcome.IMPORTED: 1}
    assert import_paths([os.fsdecode(folder)], client=client).outcomes == {Outcome.ALREADY_THERE: 1}


def test_what_servers_do_not_take_is_named_and_the_rest_goes_in(client: StubClient, tmp_path: Path) -> None:
    rows = [
        {"step": 1, "good": 1.0, "x" * 300: 2.0, "bad\nname": 3.0},
        {"step": 2, "good": 2.0, "x" * 300: 2.0, "bad\nname": 3.0},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    huge = {"fine": 1, "huge": "x" * 300_000, "k" * 300: 1, "deep": 2**70}
    (tmp_path / "params.json").write_text(json.dumps(huge))
    (source,) = import_paths([tmp_path], client=client).sources
    assert source.outcome == Outcome.IMPORTED
    assert shown(client, source.run_id) == {"good": [(1, 1.0), (2, 2.0)]}
    assert from_config(client.get_run(source.run_id).run.config) == {"fine": 1, "deep": str(2**70)}
    assert len(source.problems) == 4


def test_a_run_that_the_server_refuses_is_named_and_the_others_go_in(client: StubClient, tmp_path: Path) -> None:
    class Refusing(FaultyClient):
        def log_metrics(self, request: public.LogMetricsRequest, *, timeout: float | None = None) -> Any:
            if request.run_id == bad:
                request.attempt = -1
            return super().log_metrics(request, timeout=timeout)

    for name in ("good", "bad"):
        write_state(tmp_path / name, 3)
    bad = next(read.source.run_id for read in read_all(tmp_path) if read.source.path.parent.name == "bad")
    report = import_paths([tmp_path], client=Refusing(client, writes=1_000))
    assert {source.run_id == bad: source.outcome for source in report.sources} == {
        True: Outcome.FAILED,
        False: Outcome.IMPORTED,
    }
    (problem,) = report.all_problems
    assert "refused by the server" in problem.what


def test_a_server_out_of_reach_ends_the_import_with_the_clients_error(client: StubClient, tmp_path: Path) -> None:
    for number in range(20):
        write_state(tmp_path / f"run{number}", 3)
    with pytest.raises(LostError):
        import_paths([tmp_path], client=FaultyClient(client, writes=5))


def test_progress_counts_sources_and_points_up_to_all_of_them(client: StubClient, tmp_path: Path) -> None:
    for number in range(6):
        write_state(tmp_path / f"run{number}", 5)
    for target in (client, None):
        seen: list[ImportProgress] = []
        report = import_paths([tmp_path], client=target, dry_run=target is None, progress=seen.append)
        assert [one.sources_done for one in seen] == sorted(one.sources_done for one in seen)
        assert [one.points for one in seen] == sorted(one.points for one in seen)
        last = seen[-1]
        assert (last.sources_done, last.sources_total, last.points) == (6, 6, report.points)


def test_an_import_without_a_client_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a client"):
        import_paths([tmp_path], client=None)


def test_a_folder_with_nothing_to_import_is_told_of(client: StubClient, tmp_path: Path) -> None:
    report = import_paths([tmp_path], client=client)
    assert not report.sources
    assert "nothing to import" in report.problems[0].what


def test_many_problems_of_one_source_are_counted_rather_than_listed(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 1}\n' + "nonsense\n" * 1_000)
    (source,) = import_paths([tmp_path], client=None, dry_run=True).sources
    assert len(source.problems) == 21
    assert "980 more problems" in source.problems[-1].what


def test_a_missing_package_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_v1(tmp_path, range(2))
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_file_loader", None)
    (source,) = import_paths([tmp_path], client=None, dry_run=True).sources
    assert source.outcome == Outcome.FAILED
    assert "experiment-tracker[import]" in source.problems[0].what


def test_the_importers_load_with_the_base_install() -> None:
    script = (
        "import sys, tracker_client.importers\n"
        "print([name for name in ('numpy', 'yaml', 'tensorboard', 'pandas', 'wandb', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
