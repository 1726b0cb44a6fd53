"""A backup of a tracker at work, restored elsewhere, gives the same answers. The commands are those of docs/operations.md."""

import subprocess
import uuid
from pathlib import Path

import pytest
from google.protobuf.message import Message
from sqlalchemy import make_url

from deploy.servers import PostgreSQL, RabbitMQ
from tests.e2e.deployment import Deployment
from tests.e2e.load import call
from tests.e2e.processes import run_command
from tests.e2e.recount import wait_visible
from tests.e2e.test_both_forms import ask, plain, tell
from tracker.v1 import tracker_service_pb2 as public

PROGRAMS = Path("/usr/lib/postgresql/15/bin")


def answers(deployment: Deployment, mark: str) -> list[Message]:
    """Every read of the story, without what the clock says."""
    return [plain(answer) for answer in ask(deployment.stub(), mark)]


def encoded(messages: list[Message]) -> list[bytes]:
    """NaN is not equal to itself, its bytes are."""
    return [message.SerializeToString(deterministic=True) for message in messages]


@pytest.mark.timeout(120)
def test_the_embedded_form(embedded: Deployment, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex[:8]
    embedded.start()
    tell(embedded.stub(), mark)
    told = answers(embedded, mark)
    done = run_command(embedded.environment, "backup", str(tmp_path / "copy.db"))
    assert done.returncode == 0, done.stderr
    # Gone with the old state.
    call(embedded.stub().LogMetric, public.LogMetricRequest(run_id="after-the-backup", name="x", value=1))
    embedded.server.kill()
    database = embedded.directory / "tracker.db"
    for leftover in ("tracker.db-wal", "tracker.db-shm"):
        (embedded.directory / leftover).unlink(missing_ok=True)
    database.write_bytes((tmp_path / "copy.db").read_bytes())
    embedded.server.start()
    assert encoded(answers(embedded, mark)) == encoded(told)
    runs = call(embedded.stub().ListRuns, public.ListRunsRequest()).runs
    assert "after-the-backup" not in [run.run_id for run in runs]


@pytest.mark.timeout(150)
def test_the_full_form(full: Deployment, postgresql: PostgreSQL, rabbitmq: RabbitMQ, tmp_path: Path) -> None:  # noqa: ARG001  # the session's, which `full` uses
    """What is in the queues when the database is restored is stored then, and nothing that is in the dump is stored twice."""
    mark = uuid.uuid4().hex[:8]
    full.start()
    stub = full.stub()
    tell(stub, mark)
    waiting = public.LogMetricRequest(
        run_id=f"waiting-{mark}", name="x", value=1, writer_id=f"{mark}-writer-waiting", sequence=1
    )
    wait_visible(stub, [call(stub.LogMetric, waiting).write_token])
    told = answers(full, mark)

    url = make_url(full.settings["database_url"]).set(drivername="postgresql")
    dump = tmp_path / "dump"
    _run(str(PROGRAMS / "pg_dump"), "--format=custom", f"--file={dump}", url.render_as_string(hide_password=False))
    full.consumer.kill()
    # On their way: one that the dump has, and one that it lacks.
    tokens = [call(stub.LogMetric, waiting).write_token]
    waiting.sequence = 2
    tokens.append(call(stub.LogMetric, waiting).write_token)
    full.server.kill()

    name = f"restored_{mark}"
    target = postgresql.create_database(name)
    try:
        reach = make_url(target).set(drivername="postgresql").render_as_string(hide_password=False)
        _run(str(PROGRAMS / "pg_restore"), "--no-owner", "--exit-on-error", f"--dbname={reach}", str(dump))
        full.consumer.start(TRACKER_DATABASE_URL=target)
        full.server.start(TRACKER_DATABASE_URL=target)
        wait_visible(full.stub(), tokens)
        request = public.GetRunRequest(run_id=f"waiting-{mark}")
        assert call(full.stub().GetRun, request).metrics[0].count == 2
        assert encoded(answers(full, mark)) == encoded(told)
    finally:
        for tracker in full.trackers:
            tracker.kill()
        postgresql.drop_database(name)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
