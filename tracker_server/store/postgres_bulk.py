"""Many rows in one statement, for PostgreSQL: arrays and unnest, and binary COPY for chunks.

`ON CONFLICT` through executemany would be a round trip per row, and psycopg2 turns lists into literals slowly; array
literals built here take a tenth of the time.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import cursor as Cursor  # noqa: N812  # a class, named as one
from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql

from tracker_server.store.bulk import Columns, Keys, NumberedChunks, Row, by_column
from tracker_server.store.offsets import narrow

FLUSH_LOCKS = 0x7472_6B31
"""Class of the advisory locks that flushes take, one per partition; any number that nobody else uses."""
_CHUNK_LOCKS = 0x7472_6B33
"""Class of the advisory locks on the stored chunks of a run."""
_KEYS_A_QUERY = 500
"""Each pair is a condition of its own to PostgreSQL, which takes only so many."""
_INT4, _INT8, _FLOAT8 = 23, 20, 701  # types' object ids, fixed in PostgreSQL's pg_type
_NULL = struct.pack(">i", -1)


class PostgresBulk:
    """bulk.Bulk for PostgreSQL."""

    def lock_partitions(self, connection: Connection, partitions: Sequence[int]) -> None:
        """See bulk.Bulk. In ascending order, so that two flushes cannot wait for each other."""
        for partition in sorted(partitions):
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s, %s)", (FLUSH_LOCKS, partition))

    def lock_chunks(self, connection: Connection, run_id: str) -> None:
        """See bulk.Bulk."""
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s, %s)", (_CHUNK_LOCKS, _lock_number(run_id)))

    def begin_compaction(self, connection: Connection, run_id: str) -> bool:
        """See bulk.Bulk."""
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
        lock = "SELECT pg_try_advisory_xact_lock(%s, %s)"
        return bool(connection.exec_driver_sql(lock, (_CHUNK_LOCKS, _lock_number(run_id))).scalar_one())

    def rows_by_names(
        self, connection: Connection, table: Table, run_id: str, names: Sequence[str]
    ) -> Sequence[Mapping[str, Any]]:
        """See bulk.Bulk."""
        columns = ", ".join(f'"{column.name}"' for column in table.c)
        query = f"SELECT {columns} FROM {table.name} WHERE run_id = %s AND name = ANY(%s)"  # noqa: S608  # own names
        return [dict(row) for row in connection.exec_driver_sql(query, (run_id, list(names))).mappings()]

    def rows_by_keys(
        self, connection: Connection, table: Table, columns: Sequence[str], key: Sequence[str], keys: Keys
    ) -> Sequence[Mapping[str, Any]]:
        """See bulk.Bulk."""
        wanted, names = ", ".join(f'"{name}"' for name in columns), ", ".join(key)
        query = f"SELECT {wanted} FROM {table.name} WHERE ({names}) IN %s"  # noqa: S608  # own names
        found: list[Mapping[str, Any]] = []
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = tuple(one if len(one) > 1 else one[0] for one in keys[start : start + _KEYS_A_QUERY])
            found += map(dict, connection.exec_driver_sql(query, (some,)).mappings())
        return found

    def insert_missing(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """See bulk.Bulk."""
        if rows:
            source, parameters = _unnest(table, by_column(rows))
            names = ", ".join(f'"{name}"' for name in rows[0])
            query = f"INSERT INTO {table.name} ({names}) SELECT * FROM {source} ON CONFLICT DO NOTHING"  # noqa: S608  # own names
            connection.exec_driver_sql(query, parameters)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """See bulk.Bulk."""
        if rows:
            self.upsert_columns(connection, table, by_column(rows))

    def update(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """See bulk.Bulk."""
        if rows:
            self.update_columns(connection, table, by_column(rows))

    def upsert_columns(self, connection: Connection, table: Table, columns: Columns) -> None:
        """See bulk.Bulk."""
        source, parameters = _unnest(table, columns)
        names = ", ".join(f'"{name}"' for name in columns)
        keys = [column.name for column in table.primary_key]
        changes = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in keys)
        query = (
            f"INSERT INTO {table.name} ({names}) SELECT * FROM {source} "  # noqa: S608  # own names
            f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"
        )
        connection.exec_driver_sql(query, parameters)

    def update_columns(
        self, connection: Connection, table: Table, columns: Columns, expect: str = "", expected: Sequence[Any] = ()
    ) -> int:
        """See bulk.Bulk."""
        source, parameters = _unnest(table, columns, expect, expected)
        keys = [column.name for column in table.primary_key]
        changes = ", ".join(f'"{name}" = new."{name}"' for name in columns if name not in keys)
        match = " AND ".join(f'{table.name}."{key}" = new."{key}"' for key in keys)
        names = ", ".join(f'"{name}"' for name in columns)
        if expect:
            names += ", expected"
            match += f' AND {table.name}."{expect}" = new.expected'
        query = f"UPDATE {table.name} SET {changes} FROM {source} AS new ({names}) WHERE {match}"  # noqa: S608  # own names
        return connection.exec_driver_sql(query, parameters).rowcount

    def revise(self, connection: Connection, runs: Mapping[int, Sequence[str]]) -> Mapping[int, int]:
        """See bulk.Bulk. One statement, in the order of the partitions."""
        pairs = [(run_id, str(partition)) for partition, run_ids in sorted(runs.items()) for run_id in run_ids]
        parameters = (
            "{" + ",".join(str(partition) for partition in sorted(runs)) + "}",
            "{" + ",".join(_quote(run_id) for run_id, _ in pairs) + "}",
            "{" + ",".join(partition for _, partition in pairs) + "}",
        )
        return {row.partition: row.revision for row in connection.exec_driver_sql(_REVISE, parameters)}

    def insert_chunks(self, connection: Connection, table: Table, chunks: Sequence[NumberedChunks]) -> None:
        """See bulk.Bulk."""
        digests = "finite_count" in table.c
        columns = _CHUNK_COLUMNS + _DIGEST_COLUMNS if digests else _CHUNK_COLUMNS
        data = b"".join([b"PGCOPY\n\xff\r\n\0", bytes(8), *_copy_rows(chunks, digests=digests), b"\xff\xff"])
        raw = connection.connection.cursor()
        with cast("Cursor", raw) as cursor:
            cursor.copy_expert(f"COPY {table.name} ({', '.join(columns)}) FROM STDIN (FORMAT binary)", io.BytesIO(data))


_REVISE = """
    WITH raised AS (
        INSERT INTO partition_revisions AS present (partition, revision)
        SELECT partition, 1 FROM unnest(%s::int[]) AS changed (partition)
        ON CONFLICT (partition) DO UPDATE SET revision = present.revision + 1
        RETURNING partition, revision
    ), revised AS (
        INSERT INTO run_revisions (run_id, partition, revision)
        SELECT run_id, partition, revision FROM unnest(%s::text[], %s::int[]) AS changed (run_id, partition)
        JOIN raised USING (partition)
        ON CONFLICT (run_id) DO UPDATE SET revision = excluded.revision
    )
    SELECT partition, revision FROM raised
"""
_CHUNK_COLUMNS = (
    "run_id", "attempt", "count", "first_step", "last_step", "first_ms", "step_offsets", "time_offsets",
    "wide_steps", "wide_times", "origins", "series_no", "chunk_no", "min_value", "max_value", "point_values",
)  # fmt: skip
_DIGEST_COLUMNS = ("last_ms", "finite_count", "min_index", "max_index", "non_finite_index")


def _lock_number(run_id: str) -> int:
    """Of a run, in 32 bits. Two runs with the same one take turns, which does no harm."""
    return zlib.crc32(run_id.encode()) - 2**31


def _copy_rows(chunks: Sequence[NumberedChunks], *, digests: bool) -> Iterable[bytes]:
    header = struct.pack(">h", len(_CHUNK_COLUMNS) + (len(_DIGEST_COLUMNS) if digests else 0))
    for numbered in chunks:
        group = numbered.group
        first_step, step_offsets, wide_steps = narrow(group.steps)
        first_ms, time_offsets, wide_times = narrow(group.times)
        run_id = group.run_id.encode()
        shared = b"".join(
            [
                header,
                struct.pack(">i", len(run_id)),
                run_id,
                struct.pack(
                    ">iqiiiqiqiq",
                    8,
                    group.attempt,
                    4,
                    len(group.steps),
                    8,
                    first_step,
                    8,
                    int(group.steps[-1]),
                    8,
                    first_ms,
                ),
                _array(step_offsets, _INT4),
                _array(time_offsets, _INT4),
                _array(wide_steps, _INT8),
                _array(wide_times, _INT8),
                struct.pack(">i", len(group.origins)),
                group.origins,
            ]
        )
        low, high = group.extremes()
        values = _array_rows(group.values)
        known = group.digests() if digests else None
        last_ms = struct.pack(">iq", 8, int(group.times[-1]))
        for row, (series_no, chunk_no) in enumerate(zip(numbered.series_numbers, numbered.chunk_numbers, strict=True)):
            yield shared
            yield struct.pack(">iiii", 4, series_no, 4, chunk_no)
            yield _double(low[row])
            yield _double(high[row])
            yield values[row]
            if known is not None:
                yield last_ms
                for number in known[row]:
                    yield _NULL if number is None else struct.pack(">ii", 4, number)


def _double(value: float | None) -> bytes:
    return _NULL if value is None else struct.pack(">id", 8, value)


def _array(numbers: NDArray[Any] | None, type_id: int) -> bytes:
    """One array in PostgreSQL's binary format: dimensions, has-null flag, type, length, lower bound, elements."""
    if numbers is None:
        return _NULL
    width, kind = (4, ">i4") if type_id == _INT4 else (8, ">i8")
    elements = np.empty(len(numbers), [("length", ">i4"), ("value", kind)])
    elements["length"] = width
    elements["value"] = numbers
    return struct.pack(">iiiiii", 20 + elements.nbytes, 1, 0, type_id, len(numbers), 1) + elements.tobytes()


def _array_rows(values: NDArray[np.float64]) -> list[bytes]:
    """The same for each row of a matrix of doubles, all at once."""
    elements = np.empty(values.shape, [("length", ">i4"), ("value", ">f8")])
    elements["length"] = 8
    elements["value"] = values
    count = values.shape[1]
    header = struct.pack(">iiiiii", 20 + 12 * count, 1, 0, _FLOAT8, count, 1)
    data = elements.tobytes()
    size = 12 * count
    return [header + data[start : start + size] for start in range(0, len(data), size)]


def _unnest(table: Table, columns: Columns, more: str = "", values: Sequence[Any] = ()) -> tuple[str, tuple[str, ...]]:
    """`unnest(%s::text[], …)` and its array literals, one per column. more: one of them once again, with other values."""
    casts, parameters = [], []
    for name, column in [*columns.items(), *([(more, values)] if more else [])]:
        kind = _kind(table, name)
        write = _LITERALS.get(kind, str)
        casts.append(f"%s::{kind}[]")
        parameters.append("{" + ",".join(["NULL" if value is None else write(value) for value in column]) + "}")
    return f"unnest({', '.join(casts)})", tuple(parameters)


@cache
def _kind(table: Table, column: str) -> str:
    """A column's type in SQL."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    return str(table.c[column].type.compile(dialect=dialect)).removesuffix(' COLLATE "C"')


def _quote(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


_LITERALS: Mapping[str, Callable[[Any], str]] = {
    "TEXT": _quote,
    "JSONB": lambda value: _quote(json.dumps(value, ensure_ascii=False, allow_nan=False)),
    "DOUBLE PRECISION": repr,
}
