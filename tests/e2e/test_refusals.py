"""Starts that are refused: with exit code 1 and a message that says what to do."""

import pytest
import sqlalchemy

from tests.e2e.deployment import Deployment
from tests.e2e.processes import run_command


@pytest.mark.timeout(60)
@pytest.mark.parametrize("role", ["serve", "consume"])
@pytest.mark.parametrize("state", ["empty", "older", "newer"])
def test_a_database_at_another_revision_is_refused(full: Deployment, role: str, state: str) -> None:
    """The database is empty, or at a revision before or after this program's: the process ends at once with code 1 and
    names the command that helps."""
    if state != "empty":
        full.migrate()
        engine = sqlalchemy.create_engine(full.settings["database_url"], isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            revision = {"older": "0000_before", "newer": "9999_after"}[state]
            connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = :it"), {"it": revision})
        engine.dispose()
    tracker = full.add(role)
    tracker.launch()
    assert tracker.wait() == 1
    assert "tracker_server migrate" in tracker.log
    assert "Traceback" not in tracker.log


@pytest.mark.timeout(60)
def test_migrate_makes_an_empty_database_fit(full: Deployment) -> None:
    """`tracker_server migrate`, twice, then both roles start."""
    for _ in range(2):
        done = run_command(full.environment, "migrate")
        assert done.returncode == 0, done.stderr
        assert "revision" in done.stdout
    full.add("serve").start()
    full.add("consume").start()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("role", ["serve", "consume"])
def test_in_process_parts_are_refused_where_there_are_several_processes(embedded: Deployment, role: str) -> None:
    """`serve` and `consume` with the embedded default: each variable that is wrong is named, and `up`."""
    done = run_command(embedded.environment, role)
    assert done.returncode == 1
    for name in ("TRACKER_BROKER_URL", "TRACKER_CACHE_URL", "TRACKER_DATABASE_URL", "tracker_server up"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(60)
def test_a_second_process_on_one_file_is_refused(embedded: Deployment) -> None:
    """A second `up` on the same database file ends with code 1 and names the process that has it; the first goes on."""
    embedded.start()
    second = embedded.add("up")
    second.launch()
    assert second.wait() == 1
    assert str(embedded.server.pid) in second.log
    assert "in use" in second.log
    assert embedded.server.health() == "SERVING"
