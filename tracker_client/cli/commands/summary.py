"""`tracker summary EXPERIMENT`: an experiment at a glance."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from tracker.v1.resources_pb2 import MetricAcrossRuns
from tracker.v1.tracker_service_pb2 import GetSummaryResponse
from tracker_client.cli import output, plain, texts
from tracker_client.cli.options import ApiKey, AsJson, Server
from tracker_client.cli.output import Cell, Column, Table
from tracker_client.cli.session import connection

_BEST = "bold green"
"""How a terminal shows the run that has the best value."""
_COLUMNS = (
    Column("metric", "metric", whole=True),
    Column("runs", "runs", right=True),
    Column("non_finite_runs", "not finite", right=True, spare=True),
    Column("min", "smallest", right=True),
    Column("min_run_id", "of run", whole=True),
    Column("mean", "mean", right=True),
    Column("max", "largest", right=True),
    Column("max_run_id", "of run", whole=True),
    Column("goal", "goal", spare=True),
    Column("unit", "unit", spare=True),
)


def summary(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="The experiment's id.")],
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Show an experiment: its runs, and the range of their final metrics."""
    with connection(server, api_key) as client:
        found = client.get_summary(experiment)
        table = Table(_COLUMNS, [_row(one) for one in found.metrics])
        if as_json:
            output.print_json(plain.summary(found))
        elif output.on_terminal():
            _show_people(output.console(), found, table)
        else:
            output.print_lines(table)


def _show_people(to: Console, found: GetSummaryResponse, table: Table) -> None:
    experiment = found.experiment
    to.print(Text.assemble((texts.one_line(experiment.experiment_id), "bold"), f"  {texts.one_line(experiment.name)}"))
    counts = Text("  ")
    for one in found.run_counts:
        status = output.status(one.status)
        counts.append(f"{one.count:,} {status.shown}  ", status.style)
    to.print(counts if found.run_counts else Text("  no runs"))
    if experiment.tags:
        to.print(Text(f"  tags: {texts.one_line(', '.join(experiment.tags))}"))
    if experiment.notes:
        to.print(Text(texts.visible(experiment.notes)))
    if table.rows:
        output.heading(to, "Final values over the runs")
        output.print_grid(to, table)
    if found.newest_runs:
        output.heading(to, "Newest runs")
        rows = [
            [
                output.text(one.run_id, "bold"),
                output.status(one.status),
                output.text(one.name, width=40),
                output.when(texts.instant(one.created_at)),
            ]
            for one in found.newest_runs
        ]
        columns = (
            Column("run_id", "run", whole=True),
            Column("status", "status", whole=True),
            Column("name", "name", spare=True),
            Column("created_at", "created", whole=True, spare=True),
        )
        output.print_grid(to, Table(columns, rows))


def _row(metric: MetricAcrossRuns) -> list[Cell]:
    lowest = metric.min if metric.HasField("min") else None
    highest = metric.max if metric.HasField("max") else None
    best = metric.best if metric.HasField("best") else None
    return [
        output.text(metric.name),
        output.count(metric.run_count),
        output.count(metric.non_finite_run_count),
        output.number(lowest.value if lowest else None),
        output.text(lowest.run_id if lowest else "", _BEST if best and best == lowest else ""),
        output.number(metric.mean if metric.HasField("mean") else None),
        output.number(highest.value if highest else None),
        output.text(highest.run_id if highest else "", _BEST if best and best == highest else ""),
        output.text(texts.goal(metric.definition.goal)),
        output.text(metric.definition.unit),
    ]
