"""Many rows in one statement: the few operations that PostgreSQL and SQLite do differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Table

from tracker_server.model.chunks import ChunkGroup

Row = Mapping[str, Any]
Columns = Mapping[str, Sequence[Any]]
"""Rows by column: equally many values each, one at least."""
Keys = Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class NumberedChunks:
    """Chunks with the numbers that name them."""

    group: ChunkGroup
    series_numbers: Sequence[int]
    """One per row of the group."""
    chunk_numbers: Sequence[int]
    """One per row of the group."""


class Bulk(Protocol):
    """What a flush needs beyond plain statements."""

    def lock_partitions(self, connection: Connection, partitions: Sequence[int]) -> None:
        """Waits until no other transaction works on these partitions. Released at the end of the transaction."""

    def lock_chunks(self, connection: Connection, run_id: str) -> None:
        """Waits until no compaction works on this run, and lets none begin before the end of the transaction."""

    def begin_compaction(self, connection: Connection, run_id: str) -> bool:
        """Keeps everybody else from changing this run's stored chunks; False: somebody works on them already.

        The commit may return before it is on disk: a compaction that a crash undoes is done again.
        """

    def rows_by_names(
        self, connection: Connection, table: Table, run_id: str, names: Sequence[str]
    ) -> Sequence[Mapping[str, Any]]:
        """Rows of a table with key (run_id, name), for many names."""

    def rows_by_keys(
        self, connection: Connection, table: Table, columns: Sequence[str], key: Sequence[str], keys: Keys
    ) -> Sequence[Mapping[str, Any]]:
        """Columns of the rows whose key columns, texts, have one of these values. Those that are not there are left out."""

    def insert_missing(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Inserts rows whose key is not there yet. All rows have the same columns."""

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Inserts rows, or replaces those columns of the rows with the same key."""

    def update(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Replaces columns of existing rows, found by key."""

    def upsert_columns(self, connection: Connection, table: Table, columns: Columns) -> None:
        """As upsert, for many rows."""

    def update_columns(
        self, connection: Connection, table: Table, columns: Columns, expect: str = "", expected: Sequence[Any] = ()
    ) -> int:
        """Replaces columns of existing rows, found by key. Returns how many were there.

        expect: a column that must have the expected value, one per row; a row that has another one counts as not there.
        """

    def revise(self, connection: Connection, runs: Mapping[int, Sequence[str]]) -> Mapping[int, int]:
        """Raises the revision of each of these partitions by one and gives it to these runs of it. Returns the revisions."""

    def insert_chunks(self, connection: Connection, table: Table, chunks: Sequence[NumberedChunks]) -> None:
        """Inserts chunks."""


def by_column(rows: Sequence[Row]) -> Columns:
    """Rows, one at least, that all have the same columns."""
    return {name: [row[name] for row in rows] for name in rows[0]}
