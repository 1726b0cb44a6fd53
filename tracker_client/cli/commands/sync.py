"""`tracker sync [DIR]`: sends what runs have left in a directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tracker_client.cli import output
from tracker_client.cli.options import ApiKey, Server
from tracker_client.cli.syncing import SyncProgress, run_sync


def sync(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where runs wrote to; without: TRACKER_DIR, else .tracker.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Give up after so long; without: never.")
    ] = None,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Send what runs have left behind.

    After a crash, or when the server was away. May be interrupted and repeated: nothing is stored twice.
    """
    with _progress() as show:
        code = run_sync(directory, server=server, api_key=api_key, timeout=timeout, progress=show)
    raise typer.Exit(code)


@contextmanager
def _progress() -> Iterator[Callable[[SyncProgress], None] | None]:
    """A bar on a terminal, else nothing."""
    to = output.console(stderr=True)
    if not to.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("sending"), BarColumn(), TextColumn("{task.completed:,} points"), TimeRemainingColumn())
    with Progress(*columns, console=to, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda at: bar.update(task, completed=at.points, total=at.total_points or None)
