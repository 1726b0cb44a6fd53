"""CSV logs: Lightning, Keras, YOLO, baselines, RLlib, Stable-Baselines3's monitor, and hand-written ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from tracker_client.importers.csv_mapping import CsvMapping, MappingError, guess_step, resolve
from tracker_client.importers.csv_table import CsvTable
from tracker_client.importers.identity import changed_ms, id_from_key, readable_parts
from tracker_client.importers.point_buffer import PointBuffer
from tracker_client.importers.records import (
    END_NOT_RECORDED,
    Folder,
    Ignored,
    Problem,
    ReadError,
    Record,
    RunEnd,
    RunSource,
    RunStart,
)
from tracker_client.importers.side_config import SIDE_FILES, read_side_config
from tracker_client.importers.values import parse_moment, parse_number, parse_step, seconds_to_ms

_LOG_NAMES = frozenset({"metrics", "results", "progress", "history", "log", "train_log", "training_log", "training"})
"""Stems of files that frameworks write: logs even without a step column."""
_GENERIC = ("metrics", "results", "progress", "monitor", "0.monitor", "history", "log")
_MONITOR = "monitor.csv"
_SAMPLE_ROWS = 100
_START = "t_start"
_ELAPSED = "t"
"""Stable-Baselines3's monitor: when it started, and the seconds since then."""


class CsvReader:
    """One file, one run; one row, one step."""

    format = "csv"

    def __init__(self, wish: CsvMapping | None = None) -> None:
        """wish: what to take the columns for, instead of guessing."""
        self._wish = wish or CsvMapping()

    def find(self, folder: Folder) -> Iterator[RunSource | Problem]:
        """Files that were named, or that a framework's log is called, or that have a step column."""
        side = [folder.path / name for name in SIDE_FILES if (folder.path / name).is_file()]
        for name in folder.files:
            path = folder.path / name
            if path.suffix.lower() == ".csv" or (folder.named and path.suffix.lower() == ".tsv"):
                try:
                    taken = folder.named or self._is_log(path)
                except OSError as error:
                    yield Problem(str(path), f"cannot be read: {error.strerror}")
                    continue
                if taken:
                    yield self._source(path, side)
                else:
                    yield Problem(
                        str(path), "no log as far as one can see (no step column): left out. Name it to take it"
                    )

    def read(self, source: RunSource) -> Iterator[Record]:
        """Row by row; a column of numbers becomes a metric."""
        path = source.files[0]
        table = CsvTable(path)
        at_ms = changed_ms(source)
        if table.columns and all(parse_number(name) is not None for name in table.columns):
            raise ReadError(f"{path}: its first row has numbers only, so it has no header; put names above the columns")
        try:
            mapping = resolve(table.survey(), self._wish)
        except MappingError as error:
            raise ReadError(f"{path}: {error}") from error
        clock = _Clock(table, mapping)
        config, problems = read_side_config(source)
        first_ms = clock.first()
        yield RunStart(
            started_ms=at_ms if first_ms is None else first_ms,
            config={**table.preamble, **config},
            columns=mapping,
        )
        yield from problems
        buffer = PointBuffer(str(path), at_ms)
        last_ms = yield from _read_rows(table, mapping, clock, buffer)
        yield from buffer.problems()
        yield RunEnd(ended_ms=at_ms if last_ms is None else last_ms, metadata=END_NOT_RECORDED)

    def _is_log(self, path: Path) -> bool:
        if path.stem.lower() in _LOG_NAMES or path.name.endswith(_MONITOR):
            return True
        sample = CsvTable(path).survey(_SAMPLE_ROWS)
        step = self._wish.step or guess_step(sample)
        return step in sample and any(survey.numbers for name, survey in sample.items() if name != step)

    def _source(self, path: Path, side: list[Path]) -> RunSource:
        key = f"csv\0{path}"
        if self._wish != CsvMapping():
            # Columns that are taken for something else make another run: it could not take the other's place exactly.
            key += f"\0{self._wish!r}"
        parts = readable_parts(path, _GENERIC)
        return RunSource(self.format, path, (path, *side), key, id_from_key(parts, key), "/".join(parts))


@dataclass(slots=True)
class _Clock:
    """The moments of a table's rows."""

    table: CsvTable
    mapping: CsvMapping

    def at(self, row: dict[str, str]) -> int | None:
        """Milliseconds since 1970; None where the row does not say."""
        if self.mapping.time:
            return parse_moment(row.get(self.mapping.time, ""))
        start = self.table.preamble.get(_START)
        elapsed = parse_number(row.get(_ELAPSED, ""))
        if not isinstance(start, int | float) or elapsed is None:
            return None
        return seconds_to_ms(start + elapsed)

    def first(self) -> int | None:
        """When the run started."""
        start = self.table.preamble.get(_START)
        if isinstance(start, int | float) and not self.mapping.time:
            return seconds_to_ms(start)
        for _, cells in self.table.rows():
            if not isinstance(cells, str):
                return self.at(dict(zip(self.table.columns, cells, strict=False)))
        return None


def _read_rows(
    table: CsvTable, mapping: CsvMapping, clock: _Clock, buffer: PointBuffer
) -> Generator[Record, None, int | None]:
    """Returns the latest moment of a row."""
    path = str(table.path)
    step = -1
    last_ms: int | None = None
    stepless = _Count()
    ignored: Counter[str] = Counter()
    for line, cells in table.rows():
        if isinstance(cells, str):
            yield Problem(path, cells, f"line {line}")
            continue
        row = dict(zip(table.columns, cells, strict=False))
        if len(cells) > len(table.columns):
            yield Problem(
                path, f"{len(cells)} cells under {len(table.columns)} columns; the rest was left out", f"line {line}"
            )
        found = parse_step(row.get(mapping.step, "")) if mapping.step else step + 1
        if found is None:
            stepless.add(line)
            continue
        step, time_ms = found, clock.at(row)
        if time_ms is not None:
            last_ms = time_ms if last_ms is None else max(last_ms, time_ms)
        for name in mapping.metrics or ():
            cell = row.get(name, "")
            number = parse_number(cell)
            if number is not None:
                buffer.add(name, step, time_ms, number)
                if buffer.full:
                    yield from buffer.take()
            elif cell and not cell.isspace():
                ignored[name] += 1
        ignored.update(name for name in mapping.ignored or () if row.get(name, "").strip())
    yield from buffer.take()
    if stepless.count:
        what = f"no whole number in the step column {mapping.step!r}; {stepless.count} rows left out"
        yield Problem(path, what, f"line {stepless.first}")
    for name, count in ignored.items():
        yield Ignored(name, count, "ignored column" if name in (mapping.ignored or ()) else "text and the like")
    return last_ms


@dataclass(slots=True)
class _Count:
    """How many lines, and the first of them."""

    count: int = 0
    first: int = 0

    def add(self, line: int) -> None:
        """One more."""
        self.count += 1
        self.first = self.first or line
