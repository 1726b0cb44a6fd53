"""An import into either form: there writes are visible later than they are acknowledged, and it holds all the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from deploy.servers.processes import wait_until
from tests.e2e.deployment import Deployment
from tests.importers.reading import shown
from tests.importers.stub_client import StubClient
from tests.importers.test_reimport import ROWS, write
from tracker_client.importers import Outcome, import_paths

RUNS = 12
SECONDS = 30.0


@pytest.mark.timeout(90)
def test_runs_that_are_imported_again_and_again_while_they_grow_are_exact(calm: Deployment, tmp_path: Path) -> None:
    client = StubClient(calm.stub())
    paths = [tmp_path / f"run{number}" / "metrics.csv" for number in range(RUNS)]
    for length in (50, 50, 120, 200, 200, 30):
        for number, path in enumerate(paths):
            write(path, ROWS[number : number + length])
        report = import_paths([tmp_path], client=client)
        assert Outcome.FAILED not in report.outcomes
    for number, source in enumerate(sorted(report.sources, key=lambda source: paths.index(Path(source.path)))):
        assert wait_until(partial(is_complete, client, source.run_id), SECONDS, interval=0.1)
        expected = ROWS[number : number + 30]
        assert shown(client, source.run_id) == {"loss": expected}
        assert [metric.count for metric in client.get_run(source.run_id).metrics] == [len(expected)]
    assert import_paths([tmp_path], client=client).outcomes == {Outcome.ALREADY_THERE: RUNS}


def is_complete(client: StubClient, run_id: str) -> bool:
    """Whether all that was sent is there."""
    return client.get_run(run_id).completeness.complete
