"""`tracker show RUN`: all that is known of a run, but for its points."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from tracker.v1.resources_pb2 import Attempt, Completeness, MetricSummary, Run
from tracker.v1.tracker_service_pb2 import GetRunResponse
from tracker_client.cli import output, plain, texts
from tracker_client.cli.commands.runs import seconds_of
from tracker_client.cli.options import ApiKey, AsJson, RunId, Server
from tracker_client.cli.output import Cell, Column, Table
from tracker_client.cli.session import connection
from tracker_client.config import from_config

_VALUE_WIDTH = 300
"""Characters of a value that a terminal gets; captured packages alone have thousands."""
_METRIC_COLUMNS = (
    Column("name", "metric", whole=True),
    Column("count", "points", right=True),
    Column("last", "last", right=True),
    Column("last_step", "at step", right=True),
    Column("min", "min", right=True),
    Column("min_step", "at step", right=True, spare=True),
    Column("max", "max", right=True),
    Column("max_step", "at step", right=True, spare=True),
    Column("mean", "mean", right=True, spare=True),
    Column("final", "final", right=True, spare=True),
)
_LINE_COLUMNS = (Column("part", "part"), Column("name", "name"), Column("value", "value"))


def show(
    run: RunId,
    deleted: Annotated[bool, typer.Option("--deleted", help="Also when it was deleted.")] = False,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Show a run: status, config, metadata, metrics."""
    with connection(server, api_key) as client:
        found = client.get_run(run, show_deleted=deleted)
        if as_json:
            output.print_json(plain.run_details(found))
        elif output.on_terminal():
            _show_people(output.console(), found)
        else:
            output.print_lines(Table(_LINE_COLUMNS, list(_lines(found))))


def _show_people(to: Console, found: GetRunResponse) -> None:
    run = found.run
    status = output.status(run.status)
    to.print(Text.assemble((texts.one_line(run.run_id), "bold"), "  ", (status.shown, status.style)))
    output.print_pairs(to, _facts(run), indent=2)
    parts = {
        "Config": {name: texts.literal(value) for name, value in texts.flat(from_config(run.config)).items()},
        "Metadata": dict(sorted(run.metadata.items())),
        "Artifacts": dict(sorted(run.artifacts.items())),
    }
    for title, values in parts.items():
        if values:
            output.heading(to, title)
            pairs = ((name, output.text(value, width=_VALUE_WIDTH)) for name, value in values.items())
            output.print_pairs(to, pairs, indent=2)
    if found.metrics:
        output.heading(to, f"Metrics ({len(found.metrics):,})")
        output.print_grid(to, Table(_METRIC_COLUMNS, [_metric_row(one) for one in found.metrics]))
    if len(found.attempts) > 1:
        output.heading(to, "Attempts")
        for attempt in found.attempts:
            to.print(Text(f"  {_attempt(attempt)}"))
    to.print()
    to.print(Text(arrival(found.completeness)))


def arrival(completeness: Completeness) -> str:
    """Whether everything has arrived, in words."""
    if not completeness.writers:
        return "Its writers do not say what they sent, so nobody can tell whether all has arrived."
    if completeness.complete:
        return "Everything that was sent has arrived."
    missing = sum(one.last - one.first + 1 for writer in completeness.writers for one in writer.missing)
    refused = sum(one.last - one.first + 1 for writer in completeness.writers for one in writer.refused)
    dropped = sum(writer.dropped_points for writer in completeness.writers)
    lacking = [
        f"{texts.plural(missing, 'write')} missing" if missing else "",
        f"{texts.plural(refused, 'write')} refused" if refused else "",
        f"{texts.plural(dropped, 'point')} given up by the writers" if dropped else "",
    ]
    still_open = sum(not writer.closed for writer in completeness.writers)
    known = f"Not everything has arrived: {', '.join(filter(None, lacking))}" if any(lacking) else "Nothing is missing"
    return f"{known}; {texts.plural(still_open, 'writer')} may send more." if still_open else f"{known}."


def _facts(run: Run) -> Iterator[tuple[str, Cell]]:
    seconds = texts.duration(seconds_of(run, datetime.now(UTC)))
    started = texts.local(texts.instant(run.started_at))
    ended = texts.local(texts.instant(run.ended_at)) if run.HasField("ended_at") else ""
    facts = {
        "name": run.name,
        "experiment": run.experiment_id,
        "started": started if ended else f"{started}, {seconds} ago",
        "ended": f"{ended}, after {seconds}" if ended else "",
        "last seen": "" if ended else texts.local(texts.instant(run.last_seen_at)),
        "lost since": _when(run, "lost_since"),
        "why": texts.one_line(run.reason, _VALUE_WIDTH),
        "group": run.group,
        "part of": run.parent_run_id,
        "tags": ", ".join(run.tags),
        "stop": ": ".join(filter(None, ["asked to stop", run.stop_reason])) if run.stop_requested else "",
        "deleted": _when(run, "deleted_at"),
        "points": f"dropped {dropped}" if (dropped := _when(run, "points_dropped_at")) else "",
        "also named": ", ".join(run.experiment_conflicts),
    }
    for name, value in facts.items():
        if value:
            yield name, output.text(value)
    if run.notes:
        yield "notes", Cell(texts.visible(run.notes), run.notes)


def _when(run: Run, name: Literal["lost_since", "deleted_at", "points_dropped_at"]) -> str:
    return texts.local(texts.instant(getattr(run, name))) if run.HasField(name) else ""


def _attempt(attempt: Attempt) -> str:
    parts = [texts.local(texts.instant(attempt.started_at)), texts.status(attempt.status)]
    if attempt.HasField("ended_at"):
        parts.append(f"ended {texts.local(texts.instant(attempt.ended_at))}")
    if attempt.HasField("lost_since"):
        parts.append(f"since {texts.local(texts.instant(attempt.lost_since))}")
    if attempt.HasField("rewound_from_step"):
        parts.append(f"goes on from step {attempt.rewound_from_step - 1:,}")
    if attempt.reason:
        parts.append(texts.one_line(attempt.reason, _VALUE_WIDTH))
    return "  ".join(parts)


def _metric_row(metric: MetricSummary) -> list[Cell]:
    def step(message_field: str) -> Cell:
        if not metric.HasField(message_field):  # type: ignore[arg-type]  # one of three names, given below
            return output.NOTHING
        return output.count(getattr(metric, message_field).step)

    return [
        output.text(metric.name),
        output.count(metric.count),
        output.number(metric.last.value if metric.HasField("last") else None),
        step("last"),
        output.number(metric.min.value if metric.HasField("min") else None),
        step("min"),
        output.number(metric.max.value if metric.HasField("max") else None),
        step("max"),
        output.number(metric.mean if metric.HasField("mean") else None),
        output.number(metric.final_value if metric.HasField("final_value") else None),
    ]


def _lines(found: GetRunResponse) -> Iterator[list[Cell]]:
    run = found.run
    whole = plain.run(run)
    for name in ("run_id", "experiment_id", "name", "status", "attempt", "notes", "stop_requested"):
        yield _line("run", name, texts.literal(whole[name]))
    for name in ("reason", "group", "parent_run_id", "stop_reason", "lost_since", "deleted_at", "points_dropped_at"):
        if whole[name]:
            yield _line("run", name, whole[name])
    for name in ("created_at", "started_at", "ended_at", "last_seen_at"):
        yield _line("run", name, whole[name] or "")
    yield _line("run", "complete", texts.literal(found.completeness.complete))
    for tag in run.tags:
        yield _line("tag", tag, "")
    for name, value in texts.flat(from_config(run.config)).items():
        yield _line("config", name, texts.literal(value))
    for name, value in sorted(run.metadata.items()):
        yield _line("metadata", name, value)
    for name, value in sorted(run.artifacts.items()):
        yield _line("artifact", name, value)
    for metric in found.metrics:
        for column, cell in zip(_METRIC_COLUMNS[1:], _metric_row(metric)[1:], strict=True):
            if cell is not output.NOTHING:
                yield [Cell("", f"metric.{column.name}"), Cell("", metric.name), cell]


def _line(part: str, name: str, value: str) -> list[Cell]:
    return [Cell("", part), Cell("", name), Cell("", value)]
