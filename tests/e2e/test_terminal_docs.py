"""What docs/client-terminal.md shows at a prompt works when typed, with the runs that the page speaks of."""

from __future__ import annotations

import math
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.deployment import Deployment
from tests.e2e.processes import ROOT
from tests.e2e.terminal import COMMAND, environment
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client import to_config
from tracker_client.client import TrackerClient

_PAGE = (ROOT / "docs" / "client-terminal.md").read_text()
_COMMANDS = re.findall(r"^\$ (.*)$", _PAGE, re.MULTILINE)
_START_MS = 1_764_054_000_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a tracker with the page's runs."""
    deployment = Deployment(tmp_path_factory.mktemp("docs") / "tracker").start()
    try:
        with TrackerClient(deployment.server.address) as client:
            for run_id, rate in (("mnist-1", 0.01), ("mnist-2", 0.03)):
                fill(client, run_id, rate, ended=run_id == "mnist-1")
        yield deployment.server.address
    finally:
        deployment.close()


def fill(client: TrackerClient, run_id: str, rate: float, *, ended: bool) -> None:
    """One of the page's runs."""
    steps = range(1_000)
    losses = [2.3 * math.exp(-step * rate / 3) + 0.05 * math.sin(step) ** 2 for step in steps]
    config = to_config({"lr": rate, "model": {"depth": 4, "width": 128}, "epochs": 10})
    writer = f"{run_id}-of-the-docs-page"
    client.start_run(
        messages.StartRunRequest(
            run_id=run_id, experiment_id="mnist", config=config, tags=["baseline"], writer_id=writer, sequence=1
        )
    )
    blocks = [
        _block("train/loss", steps, losses),
        _block("val/acc", steps[::100], [1 - losses[step] / 2.6 for step in steps[::100]]),
    ]
    client.log_metrics(messages.LogMetricsRequest(run_id=run_id, blocks=blocks, writer_id=writer, sequence=2))
    if ended:
        status = resources.RUN_STATUS_COMPLETED
        client.run_completed(messages.RunCompletedRequest(run_id=run_id, status=status, writer_id=writer, sequence=3))
        client.close_writer(messages.CloseWriterRequest(run_id=run_id, writer_id=writer, last_sequence=3))


def _block(name: str, steps: range, values: list[float]) -> resources.MetricBlock:
    times = [_START_MS + 250 * step for step in steps]
    column = resources.MetricColumn(name=name, values=values)
    return resources.MetricBlock(steps=steps, times_unix_ms=times, columns=[column])


def test_the_page_shows_every_command() -> None:
    shown = {shlex.split(line)[1] for line in _COMMANDS}
    assert shown == {
        *("runs", "experiments", "show", "summary", "history", "compare", "tail"),
        *("stop", "rewind", "edit", "define", "metrics", "delete", "undelete", "retention"),
        *("import", "export", "sync", "version"),
    }


@pytest.mark.parametrize("line", _COMMANDS)
def test_a_line_works(address: str, tmp_path: Path, line: str) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.csv").write_text("step,loss\n0,1.5\n1,0.5\n")
    # A run that is under way would be followed for ever.
    line = line.replace("tail mnist-2", "tail mnist-2 --once")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("tracker", COMMAND, 1)],
        cwd=tmp_path,
        env=environment(address),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
