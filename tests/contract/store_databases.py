"""Stores for tests: a file each on SQLite; on PostgreSQL one migrated database, emptied for each test."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from sqlalchemy import text

from deploy.servers import PostgreSQL
from tracker_server.config import Settings
from tracker_server.store.store import Store, open_store

_DATABASE = "store_contract"
_migrated: set[str] = set()


def settings_for(url: str, *, partitions: int = 8) -> Settings:
    """Settings with which a store can be opened."""
    broker = "memory://" if url.startswith("sqlite:") else "amqp://unused"
    return Settings(database_url=url, broker_url=broker, partitions=partitions, database_connections=2)


def migrated_url(server: PostgreSQL) -> str:
    """A database with all tables, the same one in the whole session."""
    url = server.database_url(_DATABASE)
    if url not in _migrated:
        server.create_database(_DATABASE)
        store = open_store(settings_for(url), "migration")
        try:
            store.migrate()
            # A sync for each of thousands of small flushes would be most of the time; nobody kills this server. Where
            # PostgreSQL is killed (tests/e2e/test_outages.py), commits wait for the disk, and a lost one is noticed.
            execute(store, f"ALTER DATABASE {_DATABASE} SET synchronous_commit = off")
        finally:
            store.close()
        _migrated.add(url)
    return url


@contextmanager
def sqlite_store(directory: Path, *, synced: bool = True) -> Iterator[Store]:
    """The file in this directory; where there is none, a new one.

    synced: as in use. Without, a power cut would lose what was flushed: where nobody tests for that, syncs of thousands
    of small flushes would be most of the time.
    """
    path = directory / "tracker.db"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_migrated_file())
    store = open_store(settings_for(f"sqlite:///{quote(str(directory))}/tracker.db"), "test")
    try:
        if not synced:
            with store._writer.connect() as connection:
                # Within a transaction nothing would change.
                connection.exec_driver_sql("ROLLBACK")
                connection.exec_driver_sql("PRAGMA synchronous=OFF")
                connection.exec_driver_sql("BEGIN")
        yield store
    finally:
        store.close()


@cache
def _migrated_file() -> bytes:
    """A file with all tables and nothing in it: to migrate a new one takes ten times as long as to copy this."""
    with TemporaryDirectory() as directory:
        store = open_store(settings_for(f"sqlite:///{quote(directory)}/tracker.db"), "migration")
        # Each copy gets an id of its own when it is opened.
        execute(store, "DELETE FROM meta WHERE key = 'database_id'")
        store.close()
        return Path(directory, "tracker.db").read_bytes()


@contextmanager
def postgres_store(server: PostgreSQL) -> Iterator[Store]:
    """The session's database, emptied."""
    store = open_store(settings_for(migrated_url(server)), "test")
    try:
        empty(store)
        yield store
    finally:
        store.close()


def empty(store: Store) -> None:
    """Takes everything away that tests have written. Deleting costs a tenth of truncating here."""
    tables = "runs attempts series chunks chunk_tail writers experiment_writers run_revisions owed_events consumers experiments lease_markers"
    with store._writer.begin() as connection:
        for table in tables.split():
            connection.execute(text(f"DELETE FROM {table}"))
        connection.execute(
            text(
                "INSERT INTO experiments (experiment_id, tags, metadata, registers, created_ms) "
                "VALUES ('default', '[]', '{}', '{}', 0)"
            )
        )


def execute(
    store: Store, statement: str, rows: Sequence[Mapping[str, object]] | None = None, **parameters: object
) -> None:
    """A statement of the test's own, once with these parameters, or once for each row of them."""
    with store._writer.begin() as connection:
        connection.execute(text(statement), parameters if rows is None else [dict(row) for row in rows])
