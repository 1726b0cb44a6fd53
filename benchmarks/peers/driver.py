"""What a tracker's driver is made of. It runs in that tracker's environment: nothing but the standard library here."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

Series = tuple[Iterable[int], Iterable[float]]
"""Steps and values, of equal length."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a driver writes to and reads from."""

    directory: str
    """Of its own; everything that the tracker stores without a server is in it."""
    address: str = ""
    """Of its server; empty: it has none."""
    way: str = ""
    """Which of the tracker's ways to log."""
    database: str = ""
    """URL of the server's database."""


class NotOffered(Exception):
    """The tracker has no such thing. The message says what it has instead."""


class Recorder(ABC):
    """A run that is being logged."""

    @abstractmethod
    def log(self, step: int, values: dict[str, float]) -> None:
        """One step, as a training loop logs it."""

    def bulk(self, rows: Sequence[dict[str, float]]) -> None:
        """A row for each step from 0 on, in the fastest way that is documented."""
        for step, values in enumerate(rows):
            self.log(step, values)

    @abstractmethod
    def finish(self) -> None:
        """Returns when a reader sees all of it."""


class Driver(ABC):
    """A tracker's client, to write and to read."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.directory = Path(target.directory)

    @abstractmethod
    def open(self, run: str) -> Recorder:
        """A new run."""

    @abstractmethod
    def series(self, run: str, name: str) -> Series:
        """Every point of a metric, read anew."""

    def all_series(self, run: str, names: Sequence[str]) -> dict[str, Series]:
        """Of several metrics. Those whose reader gives all at once do it once."""
        return {name: self.series(run, name) for name in names}

    @abstractmethod
    def summary(self, run: str) -> dict[str, float]:
        """Last values by metric, read anew. Raises NotOffered."""

    @abstractmethod
    def stored_bytes(self) -> int:
        """What everything that is stored takes on disk."""

    def before_reads(self, run: str) -> None:  # noqa: B027 - most have nothing to do
        """What has to be done so that the tracker's own readers see a run; not timed."""

    def recover(self, run: str) -> str:  # noqa: ARG002 - most offer nothing
        """Does what the tracker's documentation offers for what a killed client has left; says what. Empty: nothing."""
        return ""

    def remember(self, run: str, given: str) -> None:
        """Keeps the id that the tracker gave to a run."""
        (self.directory / f"{run}.id").write_text(given, encoding="utf-8")

    def remembered(self, run: str) -> str:
        """The tracker's id of a run."""
        return (self.directory / f"{run}.id").read_text(encoding="utf-8")


def sqlite_bytes(path: Path) -> int:
    """Of an SQLite database, what is in its write-ahead log included."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (page,) = database.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(page)


def postgresql_bytes(url: str) -> int:
    """Of a PostgreSQL database: tables and indexes, without the server's write-ahead log."""
    import psycopg2  # only trackers with PostgreSQL have it

    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        (size,) = cursor.fetchone() or (0,)
    return int(size)


def files_bytes(directory: Path, pattern: str = "*") -> int:
    """Of all files below a directory that are named so."""
    return sum(path.stat().st_size for path in directory.rglob(pattern) if path.is_file())
