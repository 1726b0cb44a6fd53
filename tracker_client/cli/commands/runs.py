"""`tracker runs` and `tracker experiments`: lists."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from tracker.v1.resources_pb2 import Experiment, MetricSummary, Run
from tracker_client.cli import output, plain, texts
from tracker_client.cli.options import ApiKey, AsJson, Server, StatusName, status_of
from tracker_client.cli.output import Cell, Column, Table
from tracker_client.cli.session import connection

Limit = Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many; 0: all.")]
_MAX_PAGE = 1_000

_RUN_COLUMNS = (
    Column("run_id", "run", whole=True),
    Column("status", "status", whole=True),
    Column("experiment_id", "experiment", whole=True),
    Column("name", "name", spare=True),
    Column("started_at", "started", whole=True, spare=True),
    Column("seconds", "took", right=True),
    Column("tags", "tags", spare=True),
)
_EXPERIMENT_COLUMNS = (
    Column("experiment_id", "experiment", whole=True),
    Column("runs", "runs", right=True),
    Column("name", "name", spare=True),
    Column("created_at", "created", whole=True),
    Column("tags", "tags", spare=True),
)


def runs(
    experiment: Annotated[str, typer.Option("--experiment", "-e", help="Only of this experiment.")] = "",
    status: Annotated[
        list[StatusName] | None, typer.Option("--status", "-s", help="Only with this status. May be repeated.")
    ] = None,
    condition: Annotated[
        str,
        typer.Option("--filter", "-f", metavar="CONDITION", help="Such as 'metrics.loss.last < 0.1 AND tags:night'."),
    ] = "",
    order: Annotated[
        str, typer.Option("--order-by", "-o", metavar="FIELDS", help="Such as 'metrics.loss.min, created_at desc'.")
    ] = "",
    group: Annotated[str, typer.Option("--group", "-g", help="Only of this group.")] = "",
    parent: Annotated[str, typer.Option("--parent", metavar="RUN", help="Only parts of this run.")] = "",
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="A column for this metric. May be repeated.")
    ] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted ones too.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """List runs, newest first unless another order is asked for."""
    with connection(server, api_key) as client:
        found = client.list_runs_with_metrics(
            metric or (),
            experiment,
            statuses=[status_of(name) for name in status or ()],
            filter=_condition(condition, group=group, parent_run_id=parent),
            order_by=order,
            show_deleted=deleted,
            page_size=min(limit, _MAX_PAGE),
        )
        chosen = list(islice(found, limit or None))
        more = bool(limit) and len(chosen) == limit and next(found, None) is not None
        now = datetime.now(UTC)
        columns = [*_RUN_COLUMNS, *(Column(name, name, right=True) for name in metric or ())]
        rows = [
            [*_run_row(run, now), *(_metric_cell(known.get(name)) for name in metric or ())] for run, known in chosen
        ]
        items = (_as_json(run, known) if metric else plain.run(run) for run, known in chosen)
        output.print_list(Table(columns, rows), items, as_json=as_json)
        _say_rest(len(chosen), more, "run", "first" if order else "newest")


def _condition(condition: str, **equal: str) -> str:
    """A filter that also asks for these texts."""
    more = [f"{field} = {_quoted(value)}" for field, value in equal.items() if value]
    # As it was typed where nothing is added: errors count its characters.
    return " AND ".join([f"({condition})", *more]) if condition.strip() and more else condition or " AND ".join(more)


def _quoted(text: str) -> str:
    # A star at either end would stand for any text.
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
    return f'"{escaped}"'


def _metric_cell(metric: MetricSummary | None) -> Cell:
    """What the run is judged by: the final value that it gave, else the last one."""
    if metric is None:
        return output.NOTHING
    if metric.HasField("final_value"):
        return output.number(metric.final_value)
    return output.number(metric.last.value if metric.HasField("last") else None)


def _as_json(run: Run, known: Mapping[str, MetricSummary]) -> plain.Json:
    return plain.run(run) | {"metrics": [plain.metric(one) for one in known.values()]}


def experiments(limit: Limit = 50, as_json: AsJson = False, server: Server = None, api_key: ApiKey = None) -> None:
    """List experiments, newest first."""
    with connection(server, api_key) as client:
        found = client.list_experiments(page_size=min(limit, _MAX_PAGE))
        chosen = list(islice(found, limit or None))
        more = bool(limit) and len(chosen) == limit and next(found, None) is not None
        table = Table(_EXPERIMENT_COLUMNS, [_experiment_row(one) for one in chosen])
        output.print_list(table, map(plain.experiment, chosen), as_json=as_json)
        _say_rest(len(chosen), more, "experiment")


def seconds_of(run: Run, now: datetime) -> float:
    """How long its newest attempt took, or has taken so far."""
    end = texts.instant(run.ended_at) if run.HasField("ended_at") else now
    return max(0.0, (end - texts.instant(run.started_at)).total_seconds())


def _run_row(run: Run, now: datetime) -> list[Cell]:
    return [
        output.text(run.run_id, "bold"),
        output.status(run.status),
        output.text(run.experiment_id),
        output.text(run.name, width=40),
        output.when(texts.instant(run.started_at)),
        output.took(seconds_of(run, now)),
        output.text(", ".join(run.tags), width=40),
    ]


def _experiment_row(experiment: Experiment) -> list[Cell]:
    created = texts.instant(experiment.created_at) if experiment.HasField("created_at") else None
    return [
        output.text(experiment.experiment_id, "bold"),
        output.count(experiment.run_count),
        output.text(experiment.name, width=40),
        output.when(created),
        output.text(", ".join(experiment.tags), width=40),
    ]


def _say_rest(shown: int, more: bool, noun: str, which: str = "newest") -> None:
    """For people: that nothing is there, or that there is more."""
    if output.on_terminal() and (more or not shown):
        typer.echo(f"the {which} {shown:,}; --limit 0 shows all" if more else f"no {noun}s", err=True)
