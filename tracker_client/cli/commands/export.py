"""`tracker export RUN…`: the points of runs as a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from tracker_client.cli import output, texts
from tracker_client.cli.options import ApiKey, MaxStep, MinStep, Server
from tracker_client.cli.session import connection, fail, misuse
from tracker_client.exporters import (
    FORMATS,
    MissingLibrary,
    NothingToExport,
    Progress,
    export_runs,
    open_target,
    open_writer,
    select_metrics,
)
from tracker_client.exporters.formats import format_of


class FormatName(StrEnum):
    """Formats as they are typed."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


_STDOUT = Path("-")


def export(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Ids of runs.")],
    output_path: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write to; - for the standard output.")
    ],
    format_name: Annotated[
        FormatName | None, typer.Option("--format", "-f", help="Without: by the file's suffix, and csv for -.")
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", metavar="PATTERN", help="Only such metrics, as 'train/*'. May be repeated."),
    ] = None,
    min_step: MinStep = None,
    max_step: MaxStep = None,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Write the points of runs to a file, however many they are.

    Columns: run_id, metric, step, time_unix_ms, value. The file appears when it is complete, and takes the place of
    one that was there.
    """
    chosen = _format(output_path, format_name)
    if output_path == _STDOUT and chosen == FormatName.PARQUET and output.on_terminal():
        misuse("Parquet is not for a terminal; name a file with --output")
    with connection(server, api_key) as client:
        try:
            selection = select_metrics(client, runs, metrics or ())
            with _target(output_path) as stream, _progress() as show:
                writer = open_writer(chosen, stream)
                report = export_runs(client, selection, writer, min_step=min_step, max_step=max_step, progress=show)
                writer.close()
        except (NothingToExport, MissingLibrary) as error:
            fail(str(error))
        counts = f"{texts.plural(report.points, 'point')} of {texts.plural(report.runs, 'run')}"
        typer.echo(f"{'exported' if output_path == _STDOUT else f'{output_path}:'} {counts}", err=True)


def _format(path: Path, given: str | None) -> str:
    known = given or ("csv" if path == _STDOUT else format_of(path))
    if known is None:
        misuse(f"the format of {str(path)!r} is not clear from its name; give --format {', '.join(FORMATS)}")
    return str(known)


@contextmanager
def _target(path: Path) -> Iterator[BinaryIO]:
    if path == _STDOUT:
        yield sys.stdout.buffer
        return
    with open_target(path) as file:
        yield file


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, else nothing."""
    to = output.console(stderr=True)
    if not to.is_terminal:
        yield lambda _: None
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.completed:,} points"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=to, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda at: bar.update(
            task, description=texts.one_line(at.run_id, 40), completed=at.points, total=at.expected_points
        )
