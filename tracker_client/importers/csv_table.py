"""A CSV file as a table: its header, its rows with their lines, and what stands before the header."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tracker_client.importers.csv_mapping import ColumnSurvey
from tracker_client.importers.values import parse_number

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

_DELIMITERS = ",\t;"
_ENCODING = "utf-8-sig"


@dataclass(slots=True)
class CsvTable:
    """One file. Every pass over its rows opens it anew."""

    path: Path
    columns: list[str] = field(init=False)
    """Stripped, made different from each other; empty when the file has no header."""
    preamble: dict[str, object] = field(init=False)
    """The JSON of a comment before the header, as Stable-Baselines3's monitor writes it."""
    _delimiter: str = field(init=False)

    def __post_init__(self) -> None:
        with self._open() as file:
            header, self.preamble, _ = _read_header(file)
        self._delimiter = max(_DELIMITERS, key=header.count)
        self.columns = _distinct(next(csv.reader([header], delimiter=self._delimiter), []))

    def rows(self) -> Iterator[tuple[int, list[str] | str]]:
        """Line and cells of each row that is not empty and does not repeat the header; a text says what is wrong there.

        Raises OSError.
        """
        torn = self._ends_torn()
        with self._open() as file:
            _, _, lines = _read_header(file)
            waiting: tuple[int, list[str] | str] | None = None
            for line, row in _parsed(csv.reader(file, delimiter=self._delimiter), lines):
                if waiting is not None:
                    yield waiting
                repeats = isinstance(row, list) and [cell.strip() for cell in row] == self.columns
                waiting = (line, row) if any(row) and not repeats else None
        if waiting is None:
            return
        line, row = waiting
        if isinstance(row, list) and torn and len(row) < len(self.columns):
            # The file was cut off within this row's last cell: what stands there may be half a number.
            yield line, row[:-1]
            yield line, f"cut off after {len(row) - 1} of {len(self.columns)} cells; those before went in"
        else:
            yield waiting

    def survey(self, rows: int | None = None) -> dict[str, ColumnSurvey]:
        """What each column holds, of all rows or of the first ones. Raises OSError."""
        found = {name: ColumnSurvey() for name in self.columns}
        for _, cells in islice(self.rows(), rows):
            if not isinstance(cells, str):
                for survey, cell in zip(found.values(), cells, strict=False):
                    if cell and not cell.isspace():
                        survey.see(cell, parse_number(cell))
        return found

    def _open(self) -> IO[str]:
        return self.path.open(encoding=_ENCODING, errors="replace", newline="")

    def _ends_torn(self) -> bool:
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            if not size:
                return False
            file.seek(size - 1)
            return file.read(1) not in b"\r\n"


def _parsed(reader: CsvReader, lines_before: int) -> Iterator[tuple[int, list[str] | str]]:
    while True:
        try:
            row: list[str] | str | None = next(reader, None)
        except csv.Error as error:
            row = f"no CSV; left out: {error}"
        if row is None:
            return
        yield lines_before + reader.line_num, row


def _read_header(file: IO[str]) -> tuple[str, dict[str, object], int]:
    """The header, the JSON of the comments before it, and how many lines that were."""
    preamble: dict[str, object] = {}
    lines = 0
    for line in iter(file.readline, ""):
        lines += 1
        if line.startswith("#"):
            with suppress(ValueError):
                found = json.loads(line[1:])
                preamble |= found if isinstance(found, dict) else {}
        elif not line.isspace():
            return line.rstrip("\r\n"), preamble, lines
    return "", preamble, lines


def _distinct(names: list[str]) -> list[str]:
    """Names without the blanks that pad them; one that has none, or a second of the same, gets its position."""
    columns: list[str] = []
    for position, name in enumerate(names):
        name = name.strip() or "column"
        columns.append(f"{name}.{position}" if name in columns or name == "column" else name)
    return columns
