"""Stored points, read back: which chunks a series has, and their arrays, whole or only what is wanted of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Table,
    bindparam,
    literal,
    null,
    select,
    tuple_,
    union_all,
)

from tracker_server.model.digests import Digest
from tracker_server.model.points import Floats, Ints
from tracker_server.store.offsets import widen
from tracker_server.store.postgres_copy import copy_rows
from tracker_server.store.tables import chunk_tail, chunks

_TABLES = {"chunks": chunks, "chunk_tail": chunk_tail}
_FETCH_POINTS = 131_072
"""Points fetched at a time, 28 bytes each."""
_FETCH_CHUNKS = 1_024
"""Chunks fetched at a time."""
_HEAD_COLUMNS = (
    "chunk_no", "attempt", "count", "first_step", "last_step", "first_ms", "min_value", "max_value",
    "last_ms", "finite_count", "min_index", "max_index", "non_finite_index",
)  # fmt: skip
_INTEGERS = ("series_no", "chunk_no", "attempt", "first_step", "first_ms")
_ARRAYS: Mapping[str, str] = {
    "step_offsets": "i4",
    "time_offsets": "i4",
    "wide_steps": "i8",
    "wide_times": "i8",
    "point_values": "f8",
}
_LAYOUTS = {name: np.dtype([("length", ">i4"), ("value", f">{kind}")]) for name, kind in _ARRAYS.items()}
"""Of an element, as PostgreSQL sends arrays."""
_CHUNK_COLUMNS = ("chunk_no", "attempt", "first_step", "first_ms", "origins", *_ARRAYS)
"""What a StoredChunk is made of."""


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """A chunk without its points."""

    table: str
    chunk_no: int
    attempt: int
    count: int
    first_step: int
    last_step: int
    first_ms: int
    min_value: float | None
    max_value: float | None
    last_ms: int | None
    """Known where the digest is."""
    finite_count: int | None
    """None: nothing more is known of its values."""
    min_index: int | None
    max_index: int | None
    non_finite_index: int | None

    @property
    def digest(self) -> Digest | None:
        """What is known of its values."""
        if self.finite_count is None:
            return None
        return Digest(self.finite_count, self.min_index, self.max_index, self.non_finite_index)


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
    query = _heads_query(min_step is not None, max_step is not None)
    asked = {"run": run_id, "series": series_no, "low": min_step, "high": max_step}
    heads = [ChunkHead(*row) for row in connection.execute(query, asked)]
    return sorted(heads, key=lambda head: (head.first_step, head.chunk_no))


def heads_of_series(connection: Connection, run_id: str, series_numbers: Sequence[int]) -> list[tuple[int, ChunkHead]]:
    """All chunks of some series of a run, each with its series' number, in no order."""
    heads: list[tuple[int, ChunkHead]] = []
    for name, table in _TABLES.items():
        for start in range(0, len(series_numbers), _FETCH_CHUNKS):
            some = series_numbers[start : start + _FETCH_CHUNKS]
            query = select(table.c.series_no, *_head_columns(name, table)).where(
                table.c.run_id == run_id, table.c.series_no.in_(some)
            )
            heads.extend((row[0], ChunkHead(*row[1:])) for row in connection.execute(query))
    return heads


def tail_heads(
    connection: Connection, run_id: str, groups: Collection[tuple[int, int]], most: int
) -> list[tuple[int, ChunkHead]]:
    """Small chunks of these (series, attempt) pairs, each with its series' number: pair after pair, the oldest first."""
    columns = _head_columns("chunk_tail", chunk_tail)
    query = (
        select(chunk_tail.c.series_no, *columns)
        .where(
            chunk_tail.c.run_id == run_id,
            chunk_tail.c.series_no.in_({series_no for series_no, _ in groups}),
            tuple_(chunk_tail.c.series_no, chunk_tail.c.attempt).in_(sorted(groups)),
        )
        .order_by(chunk_tail.c.series_no, chunk_tail.c.attempt, chunk_tail.c.chunk_no)
        .limit(most)
    )
    return [(row[0], ChunkHead(*row[1:])) for row in connection.execute(query)]


def read_chunks(
    connection: Connection, run_id: str, series_no: int, heads: Iterable[ChunkHead]
) -> Iterator[StoredChunk]:
    """The points of these chunks, a few chunks at a time."""
    for row in _rows(connection, run_id, series_no, heads, _CHUNK_COLUMNS):
        yield _stored_chunk(row)


def read_chunks_of_series(
    connection: Connection, run_id: str, heads: Iterable[tuple[int, ChunkHead]]
) -> Iterator[tuple[int, StoredChunk]]:
    """The points of chunks of several series, each with its series' number, a few chunks at a time."""
    postgres = connection.dialect.name == "postgresql"
    fetch = _fetch_several_postgres if postgres else _fetch_several_sqlite
    for name, some in _batches(heads):
        keys = [(series_no, head.chunk_no) for series_no, head in some]
        for row in fetch(connection, _TABLES[name], run_id, keys, ("series_no", *_CHUNK_COLUMNS)):
            yield row["series_no"], _stored_chunk(row)


def read_values(
    connection: Connection, run_id: str, series_no: int, heads: Iterable[ChunkHead]
) -> Iterator[tuple[int, Floats]]:
    """Number and values of these chunks, a few chunks at a time."""
    for row in _rows(connection, run_id, series_no, heads, ("chunk_no", "point_values")):
        yield row["chunk_no"], row["point_values"]


def read_points_at(
    connection: Connection, run_id: str, series_no: int, wanted: Sequence[tuple[ChunkHead, int]]
) -> list[tuple[int, int, float]]:
    """Step, time and value of single points, each the one at an index of a chunk, in the order asked for."""
    if connection.dialect.name == "postgresql":
        found = _points_at_postgres(connection, run_id, series_no, wanted)
    else:
        found = _points_at_whole(connection, run_id, series_no, wanted)
    return [found[head.chunk_no, index] for head, index in wanted]


@cache
def _heads_query(from_below: bool, from_above: bool) -> CompoundSelect[Any]:
    """Made once: to make it takes longer than to run it, and one read asks for each of its series."""
    parts = []
    for name, table in _TABLES.items():
        ours = [table.c.run_id == bindparam("run"), table.c.series_no == bindparam("series")]
        ours += [table.c.last_step >= bindparam("low")] if from_below else []
        ours += [table.c.first_step <= bindparam("high")] if from_above else []
        parts.append(select(*_head_columns(name, table)).where(*ours))
    return union_all(*parts)


def _head_columns(name: str, table: Table) -> list[ColumnElement[Any]]:
    known = [table.c[column] if column in table.c else null().label(column) for column in _HEAD_COLUMNS]
    return [literal(name).label("table"), *known]


def _points_at_postgres(
    connection: Connection, run_id: str, series_no: int, wanted: Sequence[tuple[ChunkHead, int]]
) -> dict[tuple[int, int], tuple[int, int, float]]:
    found = {}
    for name in _TABLES:
        some = [(head.chunk_no, index) for head, index in wanted if head.table == name]
        if some:
            query = (
                "SELECT c.chunk_no, w.at, coalesce(c.wide_steps[w.at + 1], c.first_step + c.step_offsets[w.at + 1]), "  # noqa: S608  # own names
                "coalesce(c.wide_times[w.at + 1], c.first_ms + c.time_offsets[w.at + 1]), c.point_values[w.at + 1] "
                f"FROM unnest(%s::int[], %s::int[]) AS w (chunk_no, at) JOIN {name} c ON c.chunk_no = w.chunk_no "
                "WHERE c.run_id = %s AND c.series_no = %s"
            )
            numbers, indexes = [number for number, _ in some], [index for _, index in some]
            for row in connection.exec_driver_sql(query, (numbers, indexes, run_id, series_no)):
                found[row[0], row[1]] = (row[2], row[3], row[4])
    return found


def _points_at_whole(
    connection: Connection, run_id: str, series_no: int, wanted: Sequence[tuple[ChunkHead, int]]
) -> dict[tuple[int, int], tuple[int, int, float]]:
    indexes: dict[int, list[int]] = {}
    for head, index in wanted:
        indexes.setdefault(head.chunk_no, []).append(index)
    heads = {head.chunk_no: head for head, _ in wanted}
    found = {}
    for chunk in read_chunks(connection, run_id, series_no, heads.values()):
        for at in indexes[chunk.chunk_no]:
            found[chunk.chunk_no, at] = (int(chunk.steps[at]), int(chunk.times[at]), float(chunk.values[at]))
    return found


def _rows(
    connection: Connection, run_id: str, series_no: int, heads: Iterable[ChunkHead], columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    fetch = _fetch_postgres if connection.dialect.name == "postgresql" else _fetch_sqlite
    for name, some in _batches((series_no, head) for head in heads):
        yield from fetch(connection, _TABLES[name], run_id, series_no, [head.chunk_no for _, head in some], columns)


def _batches(heads: Iterable[tuple[int, ChunkHead]]) -> Iterator[tuple[str, list[tuple[int, ChunkHead]]]]:
    """Chunks of one table each, in the order given, that may be held in memory together."""
    heads = list(heads)
    for name in _TABLES:
        batch: list[tuple[int, ChunkHead]] = []
        size = 0
        for series_no, head in heads:
            if head.table != name:
                continue
            if batch and (size + head.count > _FETCH_POINTS or len(batch) == _FETCH_CHUNKS):
                yield name, batch
                batch, size = [], 0
            batch.append((series_no, head))
            size += head.count
        if batch:
            yield name, batch


def _fetch_postgres(
    connection: Connection, table: Table, run_id: str, series_no: int, numbers: list[int], columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    query = (
        f"SELECT {', '.join(columns)} FROM {table.name} "  # noqa: S608  # own names
        "WHERE run_id = %s AND series_no = %s AND chunk_no = ANY(%s)"
    )
    for row in copy_rows(connection, query, (run_id, series_no, numbers)):
        yield {name: _read_postgres(name, field) for name, field in zip(columns, row, strict=True)}


def _fetch_sqlite(
    connection: Connection, table: Table, run_id: str, series_no: int, numbers: list[int], columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    query = select(*(table.c[name] for name in columns)).where(
        table.c.run_id == run_id, table.c.series_no == series_no, table.c.chunk_no.in_(numbers)
    )
    for row in connection.execute(query):
        yield {name: _read_sqlite(name, field) for name, field in zip(columns, row, strict=True)}


def _fetch_several_postgres(
    connection: Connection, table: Table, run_id: str, keys: list[tuple[int, int]], columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    query = (
        f"SELECT {', '.join(columns)} FROM {table.name} "  # noqa: S608  # own names
        "JOIN unnest(%s::int[], %s::int[]) AS w (series_no, chunk_no) USING (series_no, chunk_no) "
        # Without bounds it may read all chunks of the run instead.
        "WHERE run_id = %s AND series_no BETWEEN %s AND %s"
    )
    numbers = [series_no for series_no, _ in keys]
    parameters = (numbers, [chunk_no for _, chunk_no in keys], run_id, min(numbers), max(numbers))
    for row in copy_rows(connection, query, parameters):
        yield {name: _read_postgres(name, field) for name, field in zip(columns, row, strict=True)}


def _fetch_several_sqlite(
    connection: Connection, table: Table, run_id: str, keys: list[tuple[int, int]], columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    query = select(*(table.c[name] for name in columns)).where(
        table.c.run_id == run_id, tuple_(table.c.series_no, table.c.chunk_no).in_(keys)
    )
    for row in connection.execute(query):
        yield {name: _read_sqlite(name, field) for name, field in zip(columns, row, strict=True)}


def _stored_chunk(row: Mapping[str, Any]) -> StoredChunk:
    steps = widen(row["first_step"], row["step_offsets"], row["wide_steps"])
    times = widen(row["first_ms"], row["time_offsets"], row["wide_times"])
    return StoredChunk(row["chunk_no"], row["attempt"], steps, times, row["point_values"], row["origins"])


def _read_sqlite(name: str, field: Any) -> Any:
    if name in _ARRAYS and field is not None:
        return np.frombuffer(field, f"<{_ARRAYS[name]}")
    return field


def _read_postgres(name: str, field: memoryview | None) -> Any:
    """An array has a header of 20 bytes, then length and value of each element."""
    if field is None:
        return None
    layout = _LAYOUTS.get(name)
    if layout is not None:
        elements: NDArray[Any] = np.frombuffer(field, layout, offset=20)
        return elements["value"].astype(_ARRAYS[name])
    return int.from_bytes(field, "big", signed=True) if name in _INTEGERS else bytes(field)
