"""Tables of the `tracker` command: they fit any terminal, and never show half a number."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tracker_client.cli import output
from tracker_client.cli.output import Cell, Column, Table

_COLUMNS = (
    Column("run_id", "run", whole=True),
    Column("name", "name"),
    Column("path", "from", tail=True),
    Column("value", "value", right=True),
    Column("tags", "tags", spare=True),
)
_ROW = [
    Cell("run-123456789", "run-123456789"),
    Cell("a name that goes on and on", ""),
    Cell("/data/of/somebody/metrics.csv", ""),
    Cell("0.123456", "0.1234567"),
    Cell("some, tags", ""),
]


def _printed(width: int, table: Table) -> list[str]:
    stream = io.StringIO()
    output.print_grid(Console(file=stream, width=width, color_system=None), table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (100, "run-123456789  a name that goes on and on  /data/of/somebody/metrics.csv  0.123456  some, tags"),
        (80, "run-123456789  a name that goes on…  …somebody/metrics.csv  0.123456  some, tags"),
        (57, "run-123456789  a name that go…  …dy/metrics.csv  0.123456"),
        (47, "run-123456789  a name th…  …trics.csv  0.123456"),
    ],
)
def test_what_can_be_spared_goes_first_then_texts_are_cut(width: int, expected: str) -> None:
    lines = _printed(width, Table(_COLUMNS, [_ROW]))
    assert lines[1] == expected
    assert len(lines) == 2


@pytest.mark.parametrize("width", range(10, 120, 7))
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in _printed(width, Table(_COLUMNS, [_ROW])))


def test_no_digit_is_lost_on_the_narrowest_terminal() -> None:
    lines = _printed(24, Table((Column("a", "a", right=True), Column("b", "b", right=True)), [[_ROW[3], _ROW[3]]] * 2))
    assert lines[1].split() == ["0.123456", "0.123456"]
    folded = _printed(10, Table((Column("a", "a", right=True), Column("b", "b", right=True)), [[_ROW[3], _ROW[3]]]))
    assert sorted("".join(folded[1:]).replace(" ", "")) == sorted("0.123456" * 2)


def test_a_table_without_rows_has_its_header() -> None:
    assert _printed(80, Table(_COLUMNS, []))[0].split() == ["run", "name", "from", "value", "tags"]


def test_a_spare_column_with_nothing_in_it_goes() -> None:
    row = [*_ROW[:4], output.NOTHING]
    assert "tags" not in _printed(120, Table(_COLUMNS, [row]))[0]
    assert "tags" in _printed(120, Table(_COLUMNS, [row, _ROW]))[0]


def test_markup_of_others_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_pairs(output.console(), [("[red]name[/red]", output.text("[bold]x[/bold] :smile:"))])
    assert "[red]name[/red]" in (shown := capsys.readouterr().out)
    assert "[bold]x[/bold] :smile:" in shown
