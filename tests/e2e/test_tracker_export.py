"""`tracker export`: complete over many pages, readable again in every format, in bounded memory, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import resource
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tests.e2e.deployment import Deployment
from tests.e2e.terminal import COMMAND, environment, in_pipe, on_terminal
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client.client import TrackerClient

_POINTS = 300_000
"""Many pages."""
_TIME_MS = 1_700_000_000_000
Point = tuple[str, str, int, int, str]


@pytest.fixture(scope="module")
def server(calm_embedded: Deployment) -> str:
    """The address of a tracker."""
    return calm_embedded.server.address


@pytest.fixture(scope="module")
def large(server: str) -> str:
    """A run with one metric of many points, and 250 short ones."""
    run_id = f"large-{uuid.uuid4().hex[:8]}"
    values = np.random.default_rng(1).normal(size=_POINTS)
    values[[5, 6, 7, 8]] = [math.nan, math.inf, -math.inf, 5e-324]
    with TrackerClient(server) as client:
        for start in range(0, _POINTS, 50_000):
            steps = range(start, start + 50_000)
            _log(client, run_id, {"loss": values[start : start + 50_000].tolist()}, steps)
        _log(client, run_id, {f"layer/{number:03}": [float(number), -0.0] for number in range(250)}, range(2))
    return run_id


def _log(client: TrackerClient, run_id: str, columns: dict[str, list[float]], steps: range) -> None:
    block = resources.MetricBlock(
        steps=steps,
        times_unix_ms=[_TIME_MS + step for step in steps],
        columns=[resources.MetricColumn(name=name, values=values) for name, values in columns.items()],
    )
    client.log_metrics(messages.LogMetricsRequest(run_id=run_id, blocks=[block]))


def _expected(server: str, run_id: str) -> Iterator[Point]:
    """As the client reads it, independent of exports."""
    with TrackerClient(server) as client:
        for metric in client.get_run(run_id).metrics:
            (series,) = client.get_metric_history(run_id, metric.name)
            for step, time, value in zip(series.steps, series.times_unix_ms, series.values, strict=True):
                yield run_id, metric.name, int(step), int(time), float(value).hex()


def _read(path: Path) -> Iterator[Point]:
    """By readers that are not the exporters'."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                yield row["run_id"], row["metric"], int(row["step"]), int(row["time_unix_ms"]), _hex(row["value"])
    elif path.suffix == ".jsonl":
        with path.open() as file:
            for line in file:
                point = json.loads(line, parse_constant=pytest.fail)
                yield point["run_id"], point["metric"], point["step"], point["time_unix_ms"], _hex(point["value"])
    else:
        columns = parquet.read_table(path).to_pydict()
        for run_id, metric, step, time, value in zip(*columns.values(), strict=True):
            yield run_id, metric, step, time, value.hex()


def _hex(value: str | float) -> str:
    return float(value).hex()


@pytest.mark.parametrize("name", ["points.csv", "points.jsonl", "points.parquet"])
def test_every_point_is_there_and_reads_back_the_same(server: str, large: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    done = in_pipe(server, "export", large, "--output", str(path))
    assert (done.code, done.out, done.err) == (0, "", f"{path}: 300,500 points of 1 run\n")
    assert list(_read(path)) == list(_expected(server, large))
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_parquet_has_types_and_few_row_groups(server: str, large: str, tmp_path: Path) -> None:
    path = tmp_path / "points.parquet"
    in_pipe(server, "export", large, "-o", str(path))
    file = parquet.ParquetFile(path)
    assert {field.name: str(field.type) for field in file.schema_arrow} == {
        "run_id": "dictionary<values=string, indices=int32, ordered=0>",
        "metric": "dictionary<values=string, indices=int32, ordered=0>",
        "step": "int64",
        "time_unix_ms": "int64",
        "value": "double",
    }
    assert file.num_row_groups <= 4


_MEASURED = """
import resource, sys
from tracker_client.cli import main
sys.argv[0] = "tracker"
try:
    main()
except SystemExit as end:
    print(end.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.parametrize("format_name", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_run(server: str, large: str, tmp_path: Path, format_name: str) -> None:
    """300,000 points take no more than 100,000 do."""

    def peak(*arguments: str) -> int:
        path = tmp_path / f"points.{format_name}"
        command = [sys.executable, "-c", _MEASURED, "export", large, "-m", "loss", "-o", str(path), *arguments]
        done = subprocess.run(
            command,
            env={**environment(server), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        code, kilobytes = done.stderr.splitlines()[-1].split()
        assert code == "0"
        return int(kilobytes) * 1024

    # The 200,000 more would be 16 MB as Python's numbers alone.
    growth = peak() - peak("--max-step", "99999")
    assert growth < 12_000_000, f"{growth:,} bytes"


def test_several_runs_and_chosen_metrics(server: str, large: str) -> None:
    other = f"other-{uuid.uuid4().hex[:8]}"
    with TrackerClient(server) as client:
        _log(client, other, {"loss": [1.0, 2.0, 3.0], 'odd, "name"': [4.0, 5.0, 6.0]}, range(3))
    done = in_pipe(
        server, "export", other, large, "-o", "-", "-m", "layer/00*", "-m", "odd*", "--min-step", "1", "--max-step", "1"
    )
    assert (done.code, done.err) == (0, "exported 11 points of 2 runs\n")
    found = list(csv.reader(io.StringIO(done.out)))
    assert found[0] == ["run_id", "metric", "step", "time_unix_ms", "value"]
    assert found[1] == [other, 'odd, "name"', "1", str(_TIME_MS + 1), "5.0"]
    assert [row[1] for row in found[2:]] == [f"layer/{number:03}" for number in range(10)]
    assert {row[4] for row in found[2:]} == {"-0.0"}


def test_a_pattern_that_matches_nothing_is_named(server: str, large: str, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    done = in_pipe(server, "export", large, "-o", str(path), "--metric", "los", "--metric", "loss")
    assert done.code == 1
    assert "no metric matches 'los'; there are: layer/000, " in done.err
    assert not path.exists()


def test_parquet_through_a_pipe(server: str, large: str, tmp_path: Path) -> None:
    command = [COMMAND, "export", large, "-m", "layer/*", "-o", "-", "--format", "parquet"]
    done = subprocess.run(command, env=environment(server), capture_output=True, timeout=60, check=True)
    path = tmp_path / "piped.parquet"
    path.write_bytes(done.stdout)
    assert len(list(_read(path))) == 500
    refused = on_terminal(server, "export", large, "-o", "-", "--format", "parquet")
    assert refused.code == 2
    assert "Parquet is not for a terminal" in refused.out


def test_on_a_terminal_there_is_a_bar(server: str, large: str, tmp_path: Path) -> None:
    done = on_terminal(server, "export", large, "-o", str(tmp_path / "points.csv"))
    assert done.code == 0
    assert "300,500 points of 1 run" in done.out
    assert "\x1b[?25l" in done.raw


def test_what_fails_leaves_what_was_there(server: str, large: str, tmp_path: Path) -> None:
    """A disk that is full, as far as the process can tell: it may write so many bytes to a file."""
    path = tmp_path / "points.csv"
    path.write_text("what was there")
    limit = (1_000_000, 1_000_000)
    done = subprocess.run(
        [COMMAND, "export", large, "-o", str(path)],
        env=environment(server),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert path.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_is_not_there_is_named(server: str, large: str, tmp_path: Path) -> None:
    done = in_pipe(server, "export", large, "-o", str(tmp_path / "missing" / "points.csv"))
    assert done.code == 1
    assert "No such file or directory" in done.err
    assert "missing" in done.err


def test_a_device_stays_a_device(server: str, large: str) -> None:
    assert in_pipe(server, "export", large, "-m", "layer/001", "-o", "/dev/null", "-f", "csv").code == 0
    assert not Path("/dev/null").is_file()


def test_a_link_is_followed(server: str, large: str, tmp_path: Path) -> None:
    target = tmp_path / "target.csv"
    target.write_text("old")
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    assert in_pipe(server, "export", large, "-m", "layer/001", "-o", str(link)).code == 0
    assert link.is_symlink()
    assert len(list(_read(target))) == 2
