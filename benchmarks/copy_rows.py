"""The baseline of ingest and of disk: the same points by plain COPY, a row each, into a table indexed by (run, metric, step)."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812  # a class, named as one

from deploy.servers import PostgreSQL

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_METRICS = 10
_STEPS = 1_000
"""In a batch, of each metric."""


def rows_per_second(server: PostgreSQL, points: int) -> float:
    """Rows a second, in batches of 10,000, each committed."""
    with _table(server) as connection:
        return points / _fill(connection, points)


def bytes_per_row(server: PostgreSQL, points: int) -> float:
    """Bytes on disk a row, that of its index with it, after VACUUM."""
    with _table(server) as connection:
        _fill(connection, points)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM baseline")
            cursor.execute("SELECT pg_total_relation_size('baseline')")
            (size,) = cursor.fetchone() or (0,)
        return float(size) / points


@contextmanager
def _table(server: PostgreSQL) -> Iterator[Connection]:
    with closing(psycopg2.connect(server.url.replace("+psycopg2", ""))) as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE baseline (run int8, metric int8, step int8, time int8, value float8, "
            "PRIMARY KEY (run, metric, step))"
        )
        connection.commit()
        yield connection
        cursor.execute("DROP TABLE baseline")
        connection.commit()


def _fill(connection: Connection, points: int) -> float:
    """How many seconds it took; raises AssertionError when not exactly so many rows are stored."""
    began = time.perf_counter()
    with connection.cursor() as cursor:
        for first in range(0, points // _METRICS, _STEPS):
            steps = min(_STEPS, points // _METRICS - first)
            cursor.copy_expert("COPY baseline FROM STDIN BINARY", io.BytesIO(_rows(first, steps, _METRICS)))
            connection.commit()
        seconds = time.perf_counter() - began
        cursor.execute("SELECT count(*) FROM baseline")
        (stored,) = cursor.fetchone() or (0,)
        connection.commit()
    assert stored == points, f"{stored} of {points} rows are stored"
    return seconds


def _rows(first: int, steps: int, metrics: int) -> bytes:
    kind = np.dtype(
        [("fields", ">i2"), *((f"{part}{n}", t) for n in range(5) for part, t in (("l", ">i4"), ("v", ">i8")))]
    )
    rows = np.empty(steps * metrics, kind)
    rows["fields"] = 5
    for number in range(5):
        rows[f"l{number}"] = 8
    step = np.repeat(np.arange(first, first + steps), metrics)
    rows["v0"], rows["v1"], rows["v2"] = 1, np.tile(np.arange(metrics), steps), step
    rows["v3"] = 1_700_000_000_000 + step * 137
    rows["v4"] = ((step * 0.37) % 1.0).view(np.int64)
    return _HEADER + rows.tobytes() + b"\xff\xff"
