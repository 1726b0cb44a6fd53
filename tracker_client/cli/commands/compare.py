"""`tracker compare RUN RUN…`: where configs differ, and the metrics side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from tracker.v1.resources_pb2 import MetricSummary
from tracker.v1.tracker_service_pb2 import GetRunResponse
from tracker_client.cli import output, plain, texts
from tracker_client.cli.commands.runs import seconds_of
from tracker_client.cli.options import ApiKey, AsJson, Server
from tracker_client.cli.output import NOTHING, Cell, Column, Table
from tracker_client.cli.session import connection, misuse
from tracker_client.config import from_config

Rows = list[tuple[str, list[Cell]]]


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN…", help="Ids of the runs, two or more.")],
    everything: Annotated[bool, typer.Option("--all", help="Also show where configs agree.")] = False,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Compare runs: configs and metrics side by side.

    A metric's value is the final one that the run gave, else its last.
    """
    chosen = list(dict.fromkeys(runs))
    if len(chosen) < 2:
        misuse("compare takes two runs or more")
    with connection(server, api_key) as client:
        found = [client.get_run(run_id) for run_id in chosen]
        configs = [texts.flat(from_config(one.run.config)) for one in found]
        keys = [
            key for key in _union(configs) if everything or _differ([config.get(key, _ABSENT) for config in configs])
        ]
        metrics = [{one.name: _value(one) for one in response.metrics} for response in found]
        if as_json:
            output.print_json(
                {
                    "runs": [plain.run(one.run) for one in found],
                    "config": {key: [plain.finite(config.get(key)) for config in configs] for key in keys},
                    "metrics": {
                        name: [None if (value := one.get(name)) is None else plain.real(value) for one in metrics]
                        for name in _union(metrics)
                    },
                }
            )
            return
        parts: dict[str, Rows] = {
            "run": _run_rows(found),
            "config": [(key, [_config_cell(config, key) for config in configs]) for key in keys],
            "metric": [(name, [output.number(one.get(name)) for one in metrics]) for name in _union(metrics)],
        }
        if output.on_terminal():
            _show_people(chosen, parts, everything)
        else:
            columns = [Column("part", ""), Column("name", ""), *(Column(run_id, "") for run_id in chosen)]
            rows = [[Cell("", part), Cell("", name), *cells] for part, lines in parts.items() for name, cells in lines]
            output.print_lines(Table(columns, rows))


_ABSENT = object()
_INDENT = "  "
_TITLES = {"run": "", "config": "config", "metric": "metrics"}


def _show_people(run_ids: Sequence[str], parts: dict[str, Rows], everything: bool) -> None:
    to = output.console()
    names = [name for lines in parts.values() for name, _ in lines]
    name_width = max(len(texts.one_line(name)) for name in names) + len(_INDENT)
    widths = [
        max(len(texts.one_line(run_id)), *(len(cells[index].shown) for lines in parts.values() for _, cells in lines))
        for index, run_id in enumerate(run_ids)
    ]
    for number, (first, last) in enumerate(_groups(widths, to.width - name_width)):
        if number:
            to.print()
        output.print_grid(to, _grid(run_ids[first:last], parts, first, last, everything))


def _groups(widths: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Runs that stand beside each other, from one index up to another: as many as there is room for, at least one."""
    first = used = 0
    for index, width in enumerate(widths):
        if index > first and used + width + output.GAP > room:
            yield first, index
            first, used = index, 0
        used += width + output.GAP
    yield first, len(widths)


def _grid(run_ids: Sequence[str], parts: dict[str, Rows], first: int, last: int, everything: bool) -> Table:
    """One table, so that the columns of all parts stand below each other."""
    empty = [Cell("", "")] * len(run_ids)
    columns = [
        Column("", "", whole=True),
        *(Column("", texts.one_line(run_id), right=True, whole=True) for run_id in run_ids),
    ]
    rows: list[list[Cell]] = []
    for part, lines in parts.items():
        if title := _TITLES[part]:
            rows += [[Cell("", ""), *empty], [Cell(title, "", "bold"), *empty]]
        rows += [[Cell(f"{_INDENT}{texts.one_line(name)}", name), *cells[first:last]] for name, cells in lines]
        if not lines:
            same = "the same in all" if part == "config" and not everything else "none"
            rows.append([Cell(f"{_INDENT}{same}", "", "dim"), *empty])
    return Table(columns, rows)


def _run_rows(found: Sequence[GetRunResponse]) -> Rows:
    now = datetime.now(UTC)
    return [
        ("status", [output.status(one.run.status) for one in found]),
        ("experiment", [output.text(one.run.experiment_id) for one in found]),
        ("name", [output.text(one.run.name, width=24) for one in found]),
        ("started", [output.when(texts.instant(one.run.started_at)) for one in found]),
        ("took", [output.took(seconds_of(one.run, now)) for one in found]),
    ]


def _value(metric: MetricSummary) -> float | None:
    if metric.HasField("final_value"):
        return float(metric.final_value)
    return float(metric.last.value) if metric.HasField("last") else None


def _config_cell(config: dict[str, Any], key: str) -> Cell:
    if key not in config:
        return NOTHING
    value = texts.literal(config[key])
    return Cell(texts.one_line(value, 60), value)


def _differ(values: Sequence[Any]) -> bool:
    # As texts: 4 and 4.0 are not the same, and NaN is.
    return len({_ABSENT if value is _ABSENT else repr(value) for value in values}) > 1


def _union(maps: Sequence[dict[str, Any]]) -> list[str]:
    return sorted({key for one in maps for key in one})
