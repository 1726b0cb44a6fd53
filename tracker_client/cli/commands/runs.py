"""`tracker runs` and `tracker experiments`: lists."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from typing import Annotated

import typer

from tracker.v1.resources_pb2 import Experiment, MetricSummary, Run, RunStatus, RunUpdate
from tracker_client.cli import output, plain, texts
from tracker_client.cli.options import ApiKey, AsJson, Server, StatusName, status_of
from tracker_client.cli.output import Cell, Column, Table
from tracker_client.cli.run_changes import Chosen, json_of, last_step, print_changes, standing
from tracker_client.cli.session import connection
from tracker_client.cli.watching import Patience, answers
from tracker_client.client import TrackerClient

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
_STEP_COLUMN = Column("step", "step", right=True, spare=True)
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
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Then go on, and print each run that changes. Ctrl-C ends it.")
    ] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """List runs, newest first unless another order is asked for.

    With --watch, every run that changes gets a line, as long as it meets the conditions, and one more when it does no
    longer.
    """
    asked = _Asked(
        experiment,
        [status_of(name) for name in status or ()],
        _condition(condition, {"group": group, "parent_run_id": parent}),
        show_deleted=deleted,
    )
    names = metric or []
    with connection(server, api_key) as client:
        changes = answers(client, Patience(_note), experiment_id=experiment, metrics=names) if watch else None
        if changes is not None:
            # From here on it is told what changes, so nothing is missed between the list and the first change.
            next(changes)
        found = asked.find(client, names, order, min(limit, _MAX_PAGE))
        shown = list(islice(found, limit or None))
        following = next(found, None) if limit and len(shown) == limit else None
        _print_runs(shown, names, watched=watch, as_json=as_json)
        if changes is None:
            _say_rest(len(shown), following is not None, "run", "first" if order else "newest")
            return
        sys.stdout.flush()
        listed = chain(shown, () if following is None else (following,), found)
        chosen = Chosen((run.run_id for run, _ in listed), partial(asked.of, client)) if asked.some else None
        print_changes(changes, chosen, partial(_watched_row, names=names), as_json=as_json)


@dataclass(frozen=True)
class _Asked:
    """Which runs are asked for."""

    experiment: str
    statuses: Sequence[RunStatus.ValueType]
    condition: str
    show_deleted: bool

    @property
    def some(self) -> bool:
        """Whether there is a condition beyond the experiment."""
        return bool(self.statuses or self.condition)

    def find(
        self, client: TrackerClient, metrics: Sequence[str], order: str, page_size: int
    ) -> Iterator[tuple[Run, dict[str, MetricSummary]]]:
        """They, with these metrics."""
        return client.list_runs_with_metrics(
            metrics,
            self.experiment,
            statuses=self.statuses,
            filter=self.condition,
            order_by=order,
            show_deleted=self.show_deleted,
            page_size=page_size,
        )

    def of(self, client: TrackerClient, run_ids: Sequence[str]) -> Iterator[Run]:
        """Those of these runs that are asked for."""
        return client.list_runs(
            self.experiment,
            statuses=self.statuses,
            filter=_condition(self.condition, {}, run_ids),
            show_deleted=self.show_deleted,
            page_size=len(run_ids),
        )


def _print_runs(
    found: Sequence[tuple[Run, dict[str, MetricSummary]]], names: Sequence[str], *, watched: bool, as_json: bool
) -> None:
    columns = [*_RUN_COLUMNS, *(Column(name, name, right=True) for name in names)]
    if watched:
        columns.append(_STEP_COLUMN)
    now = datetime.now(UTC)
    rows = [_row(run, output.status(run.status), known, names, now, watched=watched) for run, known in found]
    if watched:
        items = (json_of(run, known.values()) for run, known in found)
    else:
        items = (_as_json(run, known) if names else plain.run(run) for run, known in found)
    output.print_list(Table(columns, rows), items, as_json=as_json)


def _watched_row(update: RunUpdate, names: Sequence[str]) -> list[Cell]:
    known = {metric.name: metric for metric in update.metrics}
    return _row(update.run, standing(update), known, names, datetime.now(UTC), watched=True)


def _row(
    run: Run,
    status: Cell,
    known: Mapping[str, MetricSummary],
    names: Sequence[str],
    now: datetime,
    *,
    watched: bool,
) -> list[Cell]:
    row = [*_run_row(run, status, now), *(output.metric(known.get(name)) for name in names)]
    if watched:
        step = last_step(known.values())
        row.append(output.NOTHING if step is None else output.count(step))
    return row


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _condition(condition: str, equal: Mapping[str, str], run_ids: Sequence[str] = ()) -> str:
    """A filter that also asks for these texts, and for one of these runs."""
    more = [f"{field} = {_quoted(value)}" for field, value in equal.items() if value]
    if run_ids:
        more.append(f"({' OR '.join(f'run_id = {_quoted(run_id)}' for run_id in run_ids)})")
    # As it was typed where nothing is added: errors count its characters.
    return " AND ".join([f"({condition})", *more]) if condition.strip() and more else condition or " AND ".join(more)


def _quoted(text: str) -> str:
    # A star at either end would stand for any text.
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
    return f'"{escaped}"'


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


def _run_row(run: Run, status: Cell, now: datetime) -> list[Cell]:
    began = run.HasField("started_at")
    return [
        output.text(run.run_id, "bold"),
        status,
        output.text(run.experiment_id),
        output.text(run.name, width=40),
        output.when(texts.instant(run.started_at) if began else None),
        output.took(seconds_of(run, now) if began else None),
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
