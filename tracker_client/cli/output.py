"""What commands print: tables on a terminal, tab-separated lines in a pipe, JSON where it is asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tracker.v1.resources_pb2 import RunStatus
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
    """Never cut, as it is to be copied: folded where there is no room."""


@dataclass(frozen=True)
class Table:
    """Rows to be printed."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


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
    """A table for people."""
    grid = RichTable(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for column in table.columns:
        grid.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold" if column.whole else "ellipsis",
            no_wrap=not column.whole,
        )
    for row in table.rows:
        grid.add_row(*(Text(cell.shown, cell.style) for cell in row))
    to.print(grid)


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
