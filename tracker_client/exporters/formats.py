"""The formats: each takes series as they come and writes their points."""

from __future__ import annotations

import csv
import io
import json
import math
from array import array
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol

from tracker.v1.resources_pb2 import MetricSeries

COLUMNS = ("run_id", "metric", "step", "time_unix_ms", "value")
"""Of every format."""
ROW_GROUP_POINTS = 100_000
"""Points that a Parquet file has in one row group, and that are kept in memory until it is full."""


class MissingLibrary(ImportError):
    """A library of an extra is not installed. The message says which extra to install."""


class Writer(Protocol):
    """Writes points."""

    def write(self, series: MetricSeries) -> None:
        """Adds the points of a series, or of a part of one."""

    def close(self) -> None:
        """Writes what is still held. The stream stays open."""


def open_writer(name: str, stream: BinaryIO) -> Writer:
    """A writer of this format onto the stream. Raises MissingLibrary, and KeyError for a format not in FORMATS."""
    return _WRITERS[name](stream)


class _Csv:
    """With a header. Not finite: NaN, Infinity, -Infinity."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._write_rows([COLUMNS])

    def write(self, series: MetricSeries) -> None:
        points = (series.steps, series.times_unix_ms, _shown(series.values))
        self._write_rows(zip(repeat(series.run_id), repeat(series.name), *points))

    def close(self) -> None:
        self._stream.flush()

    def _write_rows(self, rows: Iterable[Iterable[object]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._stream.write(text.getvalue().encode())


class _JsonLines:
    """One object a line. Not finite: "NaN", "Infinity", "-Infinity", as protobuf's JSON has them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, series: MetricSeries) -> None:
        head = f'{{"run_id": {json.dumps(series.run_id)}, "metric": {json.dumps(series.name)}, "step": '
        lines = [
            f'{head}{step}, "time_unix_ms": {time}, "value": {value if type(value) is float else json.dumps(value)}}}\n'
            for step, time, value in zip(series.steps, series.times_unix_ms, _shown(series.values), strict=True)
        ]
        self._stream.write("".join(lines).encode())

    def close(self) -> None:
        self._stream.flush()


class _Parquet:
    """Typed columns, compressed; run and metric as dictionaries."""

    def __init__(self, stream: BinaryIO) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise MissingLibrary(
                "Parquet needs pyarrow: pip install 'experiment-tracker[parquet]', or choose csv or jsonl"
            ) from error
        self._pa: Any = pa
        texts = pa.dictionary(pa.int32(), pa.string())
        types = (texts, texts, pa.int64(), pa.int64(), pa.float64())
        self._schema = pa.schema(
            [pa.field(name, kind, nullable=False) for name, kind in zip(COLUMNS, types, strict=True)]
        )
        self._file = parquet.ParquetWriter(stream, self._schema, compression="zstd")
        self._waiting: list[MetricSeries] = []
        self._points = 0

    def write(self, series: MetricSeries) -> None:
        self._waiting.append(series)
        self._points += len(series.steps)
        # Many short series share a row group: one each would make the file several times as large.
        if self._points >= ROW_GROUP_POINTS:
            self._write_group()

    def close(self) -> None:
        self._write_group()
        self._file.close()

    def _write_group(self) -> None:
        if self._points:
            lengths = [len(series.steps) for series in self._waiting]
            columns = [
                self._texts([series.run_id for series in self._waiting], lengths),
                self._texts([series.name for series in self._waiting], lengths),
                self._numbers(self._pa.int64(), "q", (series.steps for series in self._waiting)),
                self._numbers(self._pa.int64(), "q", (series.times_unix_ms for series in self._waiting)),
                self._numbers(self._pa.float64(), "d", (series.values for series in self._waiting)),
            ]
            self._file.write_table(self._pa.Table.from_arrays(columns, schema=self._schema))
        self._waiting, self._points = [], 0

    def _texts(self, texts: list[str], lengths: list[int]) -> Any:
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        indices = array("i")
        for text, length in zip(texts, lengths, strict=True):
            indices.extend(repeat(numbers[text], length))
        return self._pa.DictionaryArray.from_arrays(
            self._buffer(self._pa.int32(), indices), self._pa.array(list(numbers), self._pa.string())
        )

    def _numbers(self, kind: Any, code: str, parts: Iterable[Iterable[float]]) -> Any:
        values: array[Any] = array(code)
        for part in parts:
            values.extend(part)
        return self._buffer(kind, values)

    def _buffer(self, kind: Any, values: array[Any]) -> Any:
        return self._pa.Array.from_buffers(kind, len(values), [None, self._pa.py_buffer(values)])


def _shown(values: Iterable[float]) -> list[float | str]:
    """Floats, and the names of those that JSON does not have."""
    return [value if math.isfinite(value) else _name(value) for value in values]


def _name(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


_WRITERS: Mapping[str, Callable[[BinaryIO], Writer]] = MappingProxyType(
    {"csv": _Csv, "jsonl": _JsonLines, "parquet": _Parquet}
)
FORMATS: tuple[str, ...] = tuple(_WRITERS)
"""Their names."""
SUFFIXES: Mapping[str, str] = MappingProxyType(
    {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
)
"""What a file's suffix says of its format."""


def format_of(path: Path) -> str | None:
    """The format that a file's name stands for; None when it says nothing."""
    return SUFFIXES.get(path.suffix.lower())
