"""Migrations make what tables.py says; a store refuses what does not fit it, and says what to do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from tests.contract.store_databases import execute, settings_for
from tests.contract.store_writes import RUN, points, write
from tracker_server.errors import BadMigration, BadSetting, StoreUnavailable
from tracker_server.store import schema
from tracker_server.store.store import Store, open_store
from tracker_server.store.tables import metadata

VIEWS = ["metric_points"]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database; SQLite's are migrated as they are opened."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/tracker.db"
    found: str = request.getfixturevalue("database_url")
    return found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_store(settings_for(url), "schema test")
    yield store
    store.close()


def test_the_migrations_make_the_tables_that_the_code_uses(store: Store) -> None:
    store.migrate()
    with store._writer.connect() as connection:
        # SQLite gives defaults back in words of its own.
        options = {"compare_type": True, "compare_server_default": connection.dialect.name == "postgresql"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_commits_wait_for_the_disk_after_a_compaction_too(store: Store) -> None:
    store.migrate()
    for number in range(1, 4):
        store.flush([write(number, points([number], [0.5]))])
    assert store.compact(RUN, finish=True)
    with store._writer.connect() as connection:
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL"
        else:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


def test_column_collations_are_those_of_the_code(store: Store) -> None:
    store.migrate()
    with store._writer.connect() as connection:
        if connection.dialect.name == "sqlite":
            return
        rows = connection.exec_driver_sql(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND collation_name = 'C'"
        )
        found = {tuple(row) for row in rows if row[0] not in VIEWS}
    wanted = set()
    for table in metadata.sorted_tables:
        for column in table.c:
            kind = column.type.dialect_impl(store._writer.dialect)
            if getattr(kind, "collation", None) == "C":
                wanted.add((table.name, column.name))
    assert found == wanted


def test_migrating_again_changes_nothing_and_keeps_the_data(store: Store) -> None:
    assert store.migrate() == schema.wanted_revision()
    store.flush([write(1, points([1], [1.0]))])
    assert store.migrate() == schema.wanted_revision()
    assert store.read_run("run", "", 1).metrics[0].totals.count == 1
    store.check()


def test_a_downgrade_removes_everything_and_the_way_up_is_open_again(store: Store) -> None:
    store.migrate()
    with store._writer.begin() as connection:
        config = schema._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with store._writer.connect() as connection:
        inspector = inspect(connection)
        assert set(inspector.get_table_names()) <= {"alembic_version"}
        assert inspector.get_view_names() == []
    with pytest.raises(BadMigration, match="tracker_server migrate"):
        store.check()
    store.migrate()
    store.check()


def test_another_revision_is_refused_with_the_command_named(store: Store) -> None:
    store.migrate()
    execute(store, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BadMigration, match=r"revision 9999.*needs 0003.*`tracker_server migrate`"):
        store.check()


def test_a_database_that_was_never_migrated_is_refused_with_the_command_named(database_url: str) -> None:
    store = open_store(settings_for(database_url), "schema test")
    try:
        with pytest.raises(BadMigration, match=r"revision none.*`tracker_server migrate`"):
            store.check()
    finally:
        store.close()


def test_another_number_of_partitions_is_refused_and_named(url: str, store: Store) -> None:
    store.migrate()
    store.close()
    refused = pytest.raises(BadSetting, match=r"TRACKER_PARTITIONS is 4.*made with 8")
    if url.startswith("sqlite:"):
        with refused:
            open_store(settings_for(url, partitions=4), "other")
    else:
        other = open_store(settings_for(url, partitions=4), "other")
        try:
            for work in (other.check, other.migrate):
                with refused:
                    work()
        finally:
            other.close()
    again = open_store(settings_for(url), "same")
    again.check()
    again.close()


def test_a_database_that_is_not_there_is_unavailable_and_not_broken(database_url: str) -> None:
    store = open_store(settings_for(database_url + "_gone"), "schema test")
    try:
        for work in (
            store.check,
            store.migrate,
            store.dashboard_stats,
            lambda: store.flush([write(1, points([1], [1.0]))]),
        ):
            with pytest.raises(StoreUnavailable, match="does not exist"):
                work()
    finally:
        store.close()
