"""What commands print: tables on a terminal, tab-separated lines in a pipe, JSON where it is asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tracker.v1.resources_pb2 import MetricSummary, RunStatus
from tracker_client.cli import texts

STATUS_STYLES = {
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "preempted": "magenta",
    "lost": "bold red",
}


@dataclass(frozen=True)
class Cell:
    """One value of a table."""

    shown: str
    """For people; cut or folded where there is no room."""
    exact: str
    """For programs; empty where there is nothing."""
    style: str = ""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    """In tab-separated lines."""
    title: str
    """On a terminal."""
    right: bool = False
    """Numbers stand to the right."""
    whole: bool = False
    """Not cut, as it is to be copied."""
    tail: bool = False
    """Of a text that is cut, the end stays, as of paths."""
    spare: bool = False
    """Left out where no row has anything in it, or there is no room for all."""

    @property
    def firm(self) -> bool:
        """Whether it keeps its width. Half a number would be another number."""
        return self.whole or self.right


@dataclass(frozen=True)
class Table:
    """Rows to be printed."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


GAP = 2
"""Between columns."""
_LEAST_TEXT = 10
"""Characters of a text that stay when it is cut."""
NOTHING = Cell(texts.NOTHING, "", "dim")


def text(value: str, style: str = "", width: int = 0) -> Cell:
    """A text of somebody else. width: characters of it that are shown at most; 0: all."""
    return Cell(texts.one_line(value, width), value, style) if value else NOTHING


def number(value: float | None) -> Cell:
    """A measured value."""
    if value is None:
        return NOTHING
    style = "" if abs(value) < float("inf") else "yellow"
    return Cell(texts.number(value), texts.exact(value), style)


def metric(summary: MetricSummary | None) -> Cell:
    """What a run is judged by: the final value that it gave, else the last one."""
    if summary is None:
        return NOTHING
    if summary.HasField("final_value"):
        return number(summary.final_value)
    return number(summary.last.value if summary.HasField("last") else None)


def count(value: int) -> Cell:
    """How many."""
    return Cell(texts.count(value), str(value))


def when(moment: datetime | None) -> Cell:
    """A moment."""
    return NOTHING if moment is None else Cell(texts.local(moment, seconds=False), texts.rfc3339(moment))


def took(seconds: float | None) -> Cell:
    """A duration."""
    return NOTHING if seconds is None else Cell(texts.duration(seconds), f"{seconds:.3f}")


def status(value: RunStatus.ValueType) -> Cell:
    """A run's status."""
    name = texts.status(value)
    return Cell(name, name, STATUS_STYLES.get(name, ""))


def on_terminal() -> bool:
    """Whether a person reads what is printed."""
    return sys.stdout.isatty()


def console(*, stderr: bool = False) -> Console:
    """Without any colour or style when NO_COLOR is set or it is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    plain = bool(os.environ.get("NO_COLOR")) or not stream.isatty()
    return Console(
        file=stream,
        color_system=None if plain else "auto",
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=False,
    )


def print_json(value: Any) -> None:
    """One object: on one line in a pipe, spread out on a terminal."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2 if on_terminal() else None))  # noqa: T201  # output


def print_lines(table: Table) -> None:
    """Tab-separated, with a line of names first."""
    sys.stdout.write("\t".join(column.name for column in table.columns) + "\n")
    for row in table.rows:
        sys.stdout.write("\t".join(texts.field(cell.exact) for cell in row) + "\n")


def print_grid(to: Console, table: Table) -> None:
    """A table for people. Where it is too wide, spare columns go, the last ones first; then texts are cut."""
    table = _without_empty(table)
    widths = [
        max(cell_len(text) for text in (column.title, *(row[index].shown for row in table.rows)))
        for index, column in enumerate(table.columns)
    ]
    kept = _fitting(table.columns, widths, to.width)
    given = _widths([table.columns[index] for index in kept], [widths[index] for index in kept], to.width)
    grid = RichTable(box=None, padding=(0, GAP, 0, 0), header_style="bold", pad_edge=False)
    for index, width in zip(kept, given, strict=True):
        column = table.columns[index]
        grid.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold" if column.firm else "ellipsis",
            no_wrap=width is not None,
            width=width,
        )
    for row in table.rows:
        cells = zip(kept, given, strict=True)
        grid.add_row(*(Text(_cut(table.columns[index], row[index], width), row[index].style) for index, width in cells))
    to.print(grid)


def _without_empty(table: Table) -> Table:
    kept = [
        index
        for index, column in enumerate(table.columns)
        if not (column.spare and table.rows and all(row[index] is NOTHING for row in table.rows))
    ]
    return Table([table.columns[index] for index in kept], [[row[index] for index in kept] for row in table.rows])


def _cut(column: Column, cell: Cell, width: int | None) -> str:
    # Of everything else rich cuts the end, and folds numbers.
    return texts.end_of(cell.shown, width) if column.tail and width is not None else cell.shown


def _fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Indices of the columns to be shown."""
    kept = list(range(len(columns)))
    for index in reversed(range(len(columns))):
        if _total(_least(columns[one], widths[one]) for one in kept) > width and columns[index].spare:
            kept.remove(index)
    return kept


def _widths(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int | None]:
    """How wide each column is to be; None for all when they fit in no way, as a comparison of many runs may not: then
    they are folded.
    """
    given = list(widths)
    least = [_least(column, wide) for column, wide in zip(columns, widths, strict=True)]
    if _total(least) > width:
        return [None] * len(columns)
    while _total(given) > width:
        # The widest of those that can be cut.
        index = max((index for index in range(len(given)) if given[index] > least[index]), key=given.__getitem__)
        given[index] -= 1
    return list(given)


def _total(widths: Iterable[int]) -> int:
    return sum(width + GAP for width in widths) - GAP


def _least(column: Column, width: int) -> int:
    """How narrow a column may become."""
    return width if column.firm else min(width, _LEAST_TEXT)


def print_pairs(to: Console, pairs: Iterable[tuple[str, Cell]], *, indent: int = 0) -> None:
    """Names and values, one pair a line."""
    grid = RichTable(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    grid.add_column(style="dim", no_wrap=True, overflow="ellipsis", max_width=40)
    grid.add_column(overflow="fold")
    for name, cell in pairs:
        grid.add_row(Text(" " * indent + texts.one_line(name)), Text(cell.shown, cell.style))
    if grid.row_count:
        to.print(grid)


def heading(to: Console, title: str) -> None:
    """Begins a part."""
    to.print()
    to.print(Text(title, "bold"))


def print_list(table: Table, items: Iterable[Any], *, as_json: bool) -> None:
    """A list as it is wanted: one JSON object a line, tab-separated lines, or a table for people.

    items: what the table's rows are made of, as JSON.
    """
    if as_json:
        for item in items:
            sys.stdout.write(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n")
    elif on_terminal():
        print_grid(console(), table)
    else:
        print_lines(table)
