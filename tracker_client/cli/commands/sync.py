"""`tracker sync [DIR]`: sends what runs have left in a directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tracker_client.cli import output, texts
from tracker_client.cli.options import CONNECTION, ApiKey
from tracker_client.cli.syncing import run_sync
from tracker_client.sender.sync import SyncProgress


def sync(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where runs wrote to; without: TRACKER_DIR, else .tracker.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="Give up after so long; without: when nothing goes through."),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="To this server; without: as the runs named it.", rich_help_panel=CONNECTION
        ),
    ] = None,
    api_key: ApiKey = None,
) -> None:
    """Send what runs have left behind.

    After a crash, or when the server was away. Each journal goes to the server that its run named, unless --server
    says another. May be interrupted and repeated: nothing is stored twice.
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
    from rich import progress

    columns = (
        progress.TextColumn("{task.fields[points]:,} points"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TextColumn("{task.description}"),
    )
    with progress.Progress(*columns, console=to, transient=True) as bar:
        task = bar.add_task("", total=None, points=0)
        most = 0

        def show(at: SyncProgress) -> None:
            nonlocal most
            most = max(most, at.left_bytes)
            said = texts.one_line(at.message, 60)
            bar.update(task, completed=most - at.left_bytes, total=most, points=at.points, description=said)

        yield show
