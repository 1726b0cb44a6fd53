"""Connections to the database, and its errors as ours."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tracker_server.errors import BadSetting, StoreUnavailable
from tracker_server.store import sqlite_functions

_CONNECT_SECONDS = 5
"""How long PostgreSQL may take to accept a connection."""
_BUSY_MS = 10_000
"""How long SQLite waits for a lock; only migrations from another process can hold one."""
_WAL_PAGES = 4_000
"""Pages of 4 KiB in the log before they are written back. At SQLite's own 1,000 a flush of a thousand metrics wrote the same
pages back every few flushes."""
_NO_SUCH_TABLE_OR_COLUMN = ("42P01", "42703")
"""PostgreSQL's codes for a database that was not migrated."""
_PASSING = (OperationalError, InterfaceError, psycopg2.OperationalError, psycopg2.InterfaceError)
"""Errors of the database rather than of a value."""
_LASTING_CODES = ("54",)
"""Classes of PostgreSQL's OperationalErrors that no retry will cure: program limits exceeded."""


def postgres_engine(
    url: str, *, name: str, connections: int, timeout_seconds: float, isolation: str | None = None
) -> Engine:
    """A pool of connections whose transactions cannot hang: the server ends those that stand still, the kernel those
    whose peer is silent. `name` (at most 63 bytes) is seen in pg_stat_activity."""
    milliseconds = int(timeout_seconds * 1000)
    options = (
        f"-c idle_in_transaction_session_timeout={milliseconds} -c tcp_user_timeout={milliseconds} "
        "-c jit=off -c timezone=UTC"
    )
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg2"),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeout_seconds,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": _CONNECT_SECONDS,
            "options": options,
            "tcp_user_timeout": milliseconds,
            "keepalives_idle": max(1, int(timeout_seconds / 3)),
            "keepalives_interval": max(1, int(timeout_seconds / 6)),
            "keepalives_count": 3,
            "application_name": name,
        },
        **({"isolation_level": isolation} if isolation else {}),
    )


def sqlite_path(url: str) -> Path:
    """The file of a SQLite URL. Raises BadSetting when there is none."""
    database = make_url(url).database
    if not database or database == ":memory:":
        message = f"TRACKER_DATABASE_URL is {url!r}; it needs a file: sqlite:///./tracker.db"
        raise BadSetting(message)
    return Path(database).absolute()


def sqlite_writer(path: Path) -> Engine:
    """The one connection that writes: acknowledged means on disk, so WAL with synchronous=FULL."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)), pool_size=1, max_overflow=0, connect_args={"check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own transactions off: BEGIN is ours.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            f"busy_timeout={_BUSY_MS}",
            "cache_size=-65536",
            f"wal_autocheckpoint={_WAL_PAGES}",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def sqlite_readers(path: Path, *, connections: int) -> Engine:
    """Connections that can only read, each transaction on a snapshot of its own."""
    engine = create_engine(
        # Quoted for SQLite; a URL as text would be unquoted once more on the way.
        URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"}),
        pool_size=connections,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}").close()
        sqlite_functions.register(connection)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def lock_file(path: Path) -> int:
    """Makes this process the file's only user until the descriptor is closed. Raises BadSetting when another one is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        message = (
            f"cannot open {path}.lock: {error.strerror}; TRACKER_DATABASE_URL must name a file that can be written"
        )
        raise BadSetting(message) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        message = f"{path} is in use by another tracker_server (process {holder}); stop it or set TRACKER_DATABASE_URL"
        raise BadSetting(message) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


@contextmanager
def guard() -> Iterator[None]:
    """Turns the errors that a retry may cure into StoreUnavailable; others pass as they are."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailable(f"no database connection became free: {error}") from error
    except (DBAPIError, psycopg2.Error) as error:  # COPY goes past SQLAlchemy, so its errors come bare
        if _code(error) in _NO_SUCH_TABLE_OR_COLUMN:
            message = "the database lacks tables of this version: run `tracker_server migrate`"
            raise StoreUnavailable(message) from error
        if is_passing(error):
            raise StoreUnavailable(f"the database is out of reach: {_first_line(_bare(error))}") from error
        raise


def is_passing(error: DBAPIError | psycopg2.Error) -> bool:
    """Whether the same statement may succeed later."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    code = _code(error)
    if code is not None and code.startswith(_LASTING_CODES):
        return False
    # psycopg2 has no class of its own for a connection that broke in the middle of COPY.
    return isinstance(error, _PASSING) or type(error) is psycopg2.DatabaseError


def _bare(error: DBAPIError | psycopg2.Error) -> BaseException | None:
    """The driver's own error."""
    return error.orig if isinstance(error, DBAPIError) else error


def _code(error: DBAPIError | psycopg2.Error) -> str | None:
    """PostgreSQL's SQLSTATE; None where there is none, as when the connection was lost."""
    bare = _bare(error)
    return bare.pgcode if isinstance(bare, psycopg2.Error) else None


def _first_line(error: Any) -> str:
    return str(error).strip().split("\n", 1)[0]
