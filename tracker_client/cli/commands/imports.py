"""`tracker import PATH…`: brings in the logs of other trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracker_client.cli import output, texts
from tracker_client.cli.exits import FAILED
from tracker_client.cli.options import ApiKey, AsJson, Server
from tracker_client.cli.output import Cell, Column, Table
from tracker_client.cli.session import connection, failures, misuse

if TYPE_CHECKING:
    from tracker_client.importers import CsvMapping, ImportProgress, ImportReport, SourceReport

_COLUMNS = (
    Column("outcome", "outcome", whole=True),
    Column("run_id", "run", whole=True),
    Column("experiment_id", "experiment", spare=True),
    Column("points", "points", right=True),
    Column("metrics", "metrics", right=True),
    Column("format", "format", whole=True),
    Column("path", "from", tail=True),
)
_STYLES = {"failed": "red", "already there": "dim"}
_CSV = "CSV logs"
_MAPPINGS = 12
"""Ways of understanding columns that a terminal gets."""

StepColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Has the step; '' for none.", rich_help_panel=_CSV)
]
TimeColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Has the time; '' for none.", rich_help_panel=_CSV)
]
MetricColumns = Annotated[
    list[str] | None,
    typer.Option("--metric-column", metavar="COLUMN", help="Is a metric. May be repeated.", rich_help_panel=_CSV),
]
IgnoreColumns = Annotated[
    list[str] | None,
    typer.Option("--ignore-column", metavar="COLUMN", help="Left out. May be repeated.", rich_help_panel=_CSV),
]


def import_(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files and folders.")],
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="For all runs; without: as the logs say, else the folder.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", "-f", metavar="FORMAT", help="Only this format. May be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything, send nothing.")] = False,
    step_column: StepColumn = None,
    time_column: TimeColumn = None,
    metric_columns: MetricColumns = None,
    ignore_columns: IgnoreColumns = None,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Bring in logs: TensorBoard, MLflow, Hugging Face, W&B, CSV, JSON Lines.

    Importing again changes nothing, and goes on where it was interrupted. What cannot be read is named, and the rest
    goes in. Which columns of CSV logs are what is guessed and shown.
    """
    # TensorBoard alone takes a second.
    from tracker_client.importers import FORMATS, CsvMapping, import_paths

    unknown = sorted(set(formats or ()).difference(FORMATS))
    if unknown:
        misuse(f"there is no format {unknown[0]!r}; there are {', '.join(FORMATS)}")
    mapping = CsvMapping(
        step=step_column,
        time=time_column,
        metrics=tuple(metric_columns) if metric_columns else None,
        ignored=tuple(ignore_columns) if ignore_columns else None,
    )
    with failures(server), nullcontext() if dry_run else connection(server, api_key) as client:
        with _progress() as show:
            report = import_paths(
                paths,
                client=client,
                experiment=experiment,
                formats=formats or None,
                csv_mapping=None if mapping == CsvMapping() else mapping,
                dry_run=dry_run,
                progress=show,
            )
        if as_json:
            output.print_json(_json(report))
        elif output.on_terminal():
            _show_people(report)
        else:
            output.print_lines(Table(_COLUMNS, [_row(source) for source in report.sources]))
        for problem in report.all_problems:
            typer.echo(f"tracker: {texts.one_line(str(problem))}", err=True)
    if report.problems or any(source.outcome == "failed" for source in report.sources):
        raise typer.Exit(FAILED)


def _show_people(report: ImportReport) -> None:
    to = output.console()
    if report.sources:
        output.print_grid(to, Table(_COLUMNS, [_row(source) for source in report.sources]))
    mapped: dict[str, int] = {}
    for source in report.sources:
        if source.columns is not None:
            line = _columns(source.columns)
            mapped[line] = mapped.get(line, 0) + 1
    if mapped:
        output.heading(to, "Columns of tables")
        for line, times in list(mapped.items())[:_MAPPINGS]:
            to.print(f"  {texts.plural(times, 'file')}: {line}")
        if len(mapped) > _MAPPINGS:
            to.print(f"  and {len(mapped) - _MAPPINGS} other ways; --json has them all")
    outcomes = ", ".join(f"{texts.plural(many, 'run')} {outcome}" for outcome, many in report.outcomes.items())
    to.print(f"\n{outcomes or 'no runs'}; {texts.plural(report.points, 'point')}")


def _row(source: SourceReport) -> list[Cell]:
    return [
        Cell(source.outcome.value, source.outcome.value, _STYLES.get(source.outcome.value, "green")),
        output.text(source.run_id, "bold"),
        output.text(source.experiment_id),
        output.count(source.points),
        output.count(source.series),
        output.text(source.format),
        Cell(texts.one_line(_from_here(source.path)), source.path),
    ]


def _from_here(path: str) -> str:
    """Relative to where the command was started, if it is below."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _columns(mapping: CsvMapping) -> str:
    """How columns were understood, in one line."""
    parts = {
        "step": mapping.step or "counted",
        "time": mapping.time or "none",
        "metrics": ", ".join(mapping.metrics or ()) or "none",
        "left out": ", ".join(mapping.ignored or ()),
    }
    return texts.one_line("; ".join(f"{name}: {value}" for name, value in parts.items() if value), 240)


def _json(report: ImportReport) -> dict[str, Any]:
    return {
        "sources": [
            {**asdict(source), "problems": [str(problem) for problem in source.problems]} for source in report.sources
        ],
        "problems": [str(problem) for problem in report.problems],
    }


@contextmanager
def _progress() -> Iterator[Callable[[ImportProgress], None] | None]:
    """A bar on a terminal, else nothing."""
    to = output.console(stderr=True)
    if not to.is_terminal:
        yield None
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.completed:,} of {task.total:,} runs"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[points]:,} points"),
        progress.TextColumn("{task.description}"),
    )
    with progress.Progress(*columns, console=to, transient=True) as bar:
        task = bar.add_task("", total=0, points=0)
        yield lambda at: bar.update(
            task,
            completed=at.sources_done,
            total=at.sources_total,
            points=at.points,
            description=texts.one_line(at.path, 60),
        )
