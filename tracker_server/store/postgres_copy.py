"""Rows out of PostgreSQL in binary. Through psycopg2's ordinary results, arrays would come as hexadecimal text: twice the
bytes, and most of the time of a read."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any, cast

from psycopg2.extensions import cursor as Cursor  # noqa: N812  # a class, named as one
from sqlalchemy import Connection

_SIGNATURE = 11
"""Bytes before the header's flags."""
_END = -1
"""Stands where the number of fields of the next row would."""


def copy_rows(connection: Connection, query: str, parameters: tuple[Any, ...]) -> Iterator[list[memoryview | None]]:
    """The rows of a query, each field in PostgreSQL's binary format; None: NULL. The whole result is held in memory."""
    received = io.BytesIO()
    with cast("Cursor", connection.connection.cursor()) as cursor:
        bound = cursor.mogrify(query, parameters).decode()
        cursor.copy_expert(f"COPY ({bound}) TO STDOUT (FORMAT binary)", received)
    data = received.getbuffer()
    (extension,) = struct.unpack_from(">i", data, _SIGNATURE + 4)
    at = _SIGNATURE + 8 + extension
    while True:
        (fields,) = struct.unpack_from(">h", data, at)
        at += 2
        if fields == _END:
            return
        row: list[memoryview | None] = []
        for _ in range(fields):
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            row.append(None if length < 0 else data[at : at + length])
            at += max(0, length)
        yield row
