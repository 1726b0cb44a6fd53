"""Stored points, read back: which chunks a series has, and their arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Row, Select, Table, func, literal, select, union_all

from tracker_server.model.points import Floats, Ints
from tracker_server.store.offsets import widen
from tracker_server.store.tables import chunk_tail, chunks

_TABLES = {"chunks": chunks, "chunk_tail": chunk_tail}
_ARRAYS = ("step_offsets", "time_offsets", "wide_steps", "wide_times", "point_values")
_FETCH = 200
"""Chunks decoded at a time."""


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """A chunk without its points."""

    table: str
    chunk_no: int
    attempt: int
    count: int
    first_step: int
    last_step: int


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk with its points, ordered by step, time, writer, sequence."""

    chunk_no: int
    attempt: int
    steps: Ints
    times: Ints
    values: Floats
    origins: bytes


def chunk_heads(
    connection: Connection, run_id: str, series_no: int, min_step: int | None = None, max_step: int | None = None
) -> list[ChunkHead]:
    """The chunks of a series that reach into a range of steps, by first step."""
    parts = []
    for name, table in _TABLES.items():
        columns = (table.c.chunk_no, table.c.attempt, table.c.count, table.c.first_step, table.c.last_step)
        part = select(literal(name).label("table"), *columns).where(
            table.c.run_id == run_id, table.c.series_no == series_no
        )
        if min_step is not None:
            part = part.where(table.c.last_step >= min_step)
        if max_step is not None:
            part = part.where(table.c.first_step <= max_step)
        parts.append(part)
    heads = [ChunkHead(*row) for row in connection.execute(union_all(*parts))]
    return sorted(heads, key=lambda head: (head.first_step, head.chunk_no))


def read_chunks(
    connection: Connection, run_id: str, series_no: int, heads: Sequence[ChunkHead]
) -> Iterator[StoredChunk]:
    """The points of these chunks, a few at a time."""
    for name, table in _TABLES.items():
        numbers = [head.chunk_no for head in heads if head.table == name]
        for start in range(0, len(numbers), _FETCH):
            some = numbers[start : start + _FETCH]
            query = _query(connection, table).where(
                table.c.run_id == run_id, table.c.series_no == series_no, table.c.chunk_no.in_(some)
            )
            yield from _decode(connection, connection.execute(query))


def _query(connection: Connection, table: Table) -> Select[Any]:
    plain = (table.c.chunk_no, table.c.attempt, table.c.first_step, table.c.first_ms, table.c.origins)
    return select(*plain, *(_bytes(connection, table.c[name]).label(name) for name in _ARRAYS))


def _bytes(connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
    # As text an array of doubles takes ten times as long to read.
    return func.array_send(column) if connection.dialect.name == "postgresql" else column


def _decode(connection: Connection, rows: Iterable[Row[Any]]) -> Iterator[StoredChunk]:
    postgres = connection.dialect.name == "postgresql"
    narrow, wide, double = ("i4", "i8", "f8")
    read = _read_postgres if postgres else _read_sqlite
    for row in rows:
        steps = widen(row.first_step, read(row.step_offsets, narrow), read(row.wide_steps, wide))
        times = widen(row.first_ms, read(row.time_offsets, narrow), read(row.wide_times, wide))
        values = read(row.point_values, double)
        assert values is not None
        yield StoredChunk(row.chunk_no, row.attempt, steps, times, values, bytes(row.origins))


def _read_sqlite(data: bytes | None, kind: str) -> NDArray[Any] | None:
    return None if data is None else np.frombuffer(data, f"<{kind}")


def _read_postgres(data: Any, kind: str) -> NDArray[Any] | None:
    """An array in PostgreSQL's binary format: a header of 20 bytes, then length and value of each element."""
    if data is None:
        return None
    elements = np.frombuffer(data, [("length", ">i4"), ("value", f">{kind}")], offset=20)
    return elements["value"].astype(kind)
