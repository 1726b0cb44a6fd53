"""Many rows in one statement, for SQLite."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import JSON, Boolean, Connection, Table, bindparam, func, select, text
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tracker_server.store.bulk import Columns, Keys, NumberedChunks, Row, by_column
from tracker_server.store.offsets import narrow
from tracker_server.store.tables import partition_revisions, run_revisions


class SqliteBulk:
    """bulk.Bulk for SQLite: one writer, so nothing to lock."""

    def lock_partitions(self, connection: Connection, partitions: Sequence[int]) -> None:
        """The transaction began IMMEDIATE: it is the only writer there is."""

    def lock_chunks(self, connection: Connection, run_id: str) -> None:
        """As lock_partitions."""

    def begin_compaction(self, connection: Connection, run_id: str) -> bool:  # noqa: ARG002  # for bulk.Bulk
        """As lock_partitions."""
        return True

    def rows_by_names(
        self, connection: Connection, table: Table, run_id: str, names: Sequence[str]
    ) -> Sequence[Mapping[str, Any]]:
        """See bulk.Bulk."""
        wanted = select(text("value")).select_from(func.json_each(bindparam("names")))
        query = select(table).where(table.c.run_id == run_id, table.c.name.in_(wanted))
        return [dict(row) for row in connection.execute(query, {"names": json.dumps(list(names))}).mappings()]

    def rows_by_keys(
        self, connection: Connection, table: Table, columns: Sequence[str], key: Sequence[str], keys: Keys
    ) -> Sequence[Mapping[str, Any]]:
        """See bulk.Bulk."""
        columns = tuple(columns)
        found = connection.exec_driver_sql(_select(table, columns, tuple(key)), (json.dumps(keys),))
        rows = [dict(zip(columns, row, strict=True)) for row in found]
        for name, read in _readers(table, columns):
            for row in rows:
                if row[name] is not None:
                    row[name] = read(row[name])
        return rows

    def insert_missing(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """See bulk.Bulk."""
        if rows:
            _run(connection, f"{_insert(table, tuple(rows[0]))} ON CONFLICT DO NOTHING", table, by_column(rows))

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
        _run(connection, _upsert(table, tuple(columns)), table, columns)

    def update_columns(
        self, connection: Connection, table: Table, columns: Columns, expect: str = "", expected: Sequence[Any] = ()
    ) -> int:
        """See bulk.Bulk."""
        keys = [column.name for column in table.primary_key]
        # In the order of the statement's parameters: what is set, then what finds the row.
        ordered = {name: values for name, values in columns.items() if name not in keys}
        ordered |= {name: columns[name] for name in keys}
        return _run(connection, _update(table, tuple(columns), expect), table, ordered, (expected,) if expect else ())

    def revise(self, connection: Connection, runs: Mapping[int, Sequence[str]]) -> Mapping[int, int]:
        """See bulk.Bulk."""
        first = sqlite_insert(partition_revisions)
        raised = {"revision": partition_revisions.c.revision + 1}
        connection.execute(
            first.on_conflict_do_update(index_elements=["partition"], set_=raised),
            [{"partition": partition, "revision": 1} for partition in runs],
        )
        found = select(partition_revisions.c.partition, partition_revisions.c.revision)
        revisions = {partition: revision for partition, revision in connection.execute(found) if partition in runs}
        self.upsert(
            connection,
            run_revisions,
            [
                {"run_id": run_id, "partition": partition, "revision": revisions[partition]}
                for partition, run_ids in runs.items()
                for run_id in run_ids
            ],
        )
        return revisions

    def insert_chunks(self, connection: Connection, table: Table, chunks: Sequence[NumberedChunks]) -> None:
        """See bulk.Bulk."""
        columns = _chunk_columns(chunks, digests="finite_count" in table.c)
        _run(connection, _insert(table, tuple(columns)), table, columns)


def _run(
    connection: Connection, statement: str, table: Table, columns: Columns, more: Sequence[Sequence[Any]] = ()
) -> int:
    """Runs a statement for each row, past SQLAlchemy's own conversion of parameters, which costs twice the statement.

    more: parameters after the columns. Returns how many rows of the table were written.
    """
    written = dict(columns)
    for name in _json_columns(table, tuple(columns)):
        written[name] = [None if value is None else json.dumps(value) for value in columns[name]]
    return connection.exec_driver_sql(statement, list(zip(*written.values(), *more, strict=True))).rowcount


@cache
def _select(table: Table, columns: tuple[str, ...], key: tuple[str, ...]) -> str:
    names = ", ".join(map(_quoted, columns))
    values = ", ".join(f"json_extract(value, '$[{i}]')" for i in range(len(key)))
    return (
        f"SELECT {names} FROM {table.name} "  # noqa: S608  # own names
        f"WHERE ({', '.join(key)}) IN (SELECT {values} FROM json_each(?))"
    )


@cache
def _readers(table: Table, columns: tuple[str, ...]) -> Sequence[tuple[str, Callable[[Any], Any]]]:
    """Columns that SQLite has in another form, and how each becomes what it is."""
    kinds = {name: type(table.c[name].type) for name in columns}
    return [(name, _READ[kind]) for name, kind in kinds.items() if kind in _READ]


@cache
def _json_columns(table: Table, columns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in columns if isinstance(table.c[name].type, JSON))


@cache
def _insert(table: Table, columns: tuple[str, ...]) -> str:
    names = ", ".join(map(_quoted, columns))
    return f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608  # own names


@cache
def _upsert(table: Table, columns: tuple[str, ...]) -> str:
    keys = [column.name for column in table.primary_key]
    changes = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in columns if name not in keys)
    return f"{_insert(table, columns)} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"


@cache
def _update(table: Table, columns: tuple[str, ...], expect: str) -> str:
    keys = [column.name for column in table.primary_key]
    changes = ", ".join(f"{_quoted(name)} = ?" for name in columns if name not in keys)
    match = " AND ".join(f"{_quoted(name)} = ?" for name in ([*keys, expect] if expect else keys))
    return f"UPDATE {table.name} SET {changes} WHERE {match}"  # noqa: S608  # own names


_READ: Mapping[type[Any], Callable[[Any], Any]] = {JSON: json.loads, Boolean: bool}


def _quoted(name: str) -> str:
    return f'"{name}"'


def _chunk_columns(chunks: Sequence[NumberedChunks], *, digests: bool) -> Columns:
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    for numbered in chunks:
        group = numbered.group
        first_step, step_offsets, wide_steps = narrow(group.steps)
        first_ms, time_offsets, wide_times = narrow(group.times)
        shared = {
            "run_id": group.run_id,
            "attempt": group.attempt,
            "count": len(group.steps),
            "first_step": first_step,
            "last_step": int(group.steps[-1]),
            "first_ms": first_ms,
            "step_offsets": None if step_offsets is None else step_offsets.astype("<i4").tobytes(),
            "time_offsets": None if time_offsets is None else time_offsets.astype("<i4").tobytes(),
            "wide_steps": None if wide_steps is None else wide_steps.astype("<i8").tobytes(),
            "wide_times": None if wide_times is None else wide_times.astype("<i8").tobytes(),
            "origins": group.origins,
        }
        low, high = group.extremes()
        own: dict[str, Sequence[Any]] = {
            "series_no": numbered.series_numbers,
            "chunk_no": numbered.chunk_numbers,
            "min_value": low,
            "max_value": high,
            "point_values": _rows(group.values.astype("<f8")),
        }
        if digests:
            shared["last_ms"] = int(group.times[-1])
            own |= by_column([digest._asdict() for digest in group.digests()])
        for name, value in shared.items():
            columns[name] += [value] * len(group.names)
        for name, values in own.items():
            columns[name] += values
    return columns


def _rows(values: NDArray[np.float64]) -> list[bytes]:
    """Each row's bytes."""
    data, size = values.tobytes(), values.shape[1] * values.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]
