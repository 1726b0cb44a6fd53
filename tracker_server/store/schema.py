"""The schema's revision: bring it up to date, or refuse to work on another one."""

from __future__ import annotations

import secrets

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tracker_server.errors import BadMigration, BadSetting
from tracker_server.store.engine import guard
from tracker_server.store.tables import meta

MIGRATION_LOCK = 0x7472_6B30
"""Advisory lock that makes two migrations at the same time take turns."""


def migrate(engine: Engine, partitions: int) -> str:
    """Brings the schema to this program's revision and returns it. Raises StoreUnavailable or BadSetting."""
    with guard(), engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        insert = postgres_insert if connection.dialect.name == "postgresql" else sqlite_insert
        for key, value in (("partitions", str(partitions)), ("database_id", secrets.token_hex(8))):
            connection.execute(insert(meta).values(key=key, value=value).on_conflict_do_nothing())
        _check_partitions(connection, partitions)
    return wanted_revision()


def check(engine: Engine, partitions: int) -> None:
    """Raises BadMigration, BadSetting or StoreUnavailable unless the database is fit for this program."""
    with guard(), engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found != wanted_revision():
            message = (
                f"the database is at revision {found or 'none'}, this program needs {wanted_revision()}: "
                "run `tracker_server migrate` (of this version)"
            )
            raise BadMigration(message)
        _check_partitions(connection, partitions)


def wanted_revision() -> str:
    """The revision that this program works on."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "tracker_server:migrations")
    return config


def _check_partitions(connection: Connection, partitions: int) -> None:
    stored = connection.execute(select(meta.c.value).where(meta.c.key == "partitions")).scalar_one()
    if int(stored) != partitions:
        message = (
            f"TRACKER_PARTITIONS is {partitions}, but this database was made with {stored}: "
            "runs would change their queues; set it to that"
        )
        raise BadSetting(message)
