"""The command line with the extra `cli`."""

from __future__ import annotations

import sys

import typer

from tracker_client.cli.commands.compare import compare
from tracker_client.cli.commands.delete import delete, undelete
from tracker_client.cli.commands.edit import edit
from tracker_client.cli.commands.export import export
from tracker_client.cli.commands.history import history
from tracker_client.cli.commands.imports import import_
from tracker_client.cli.commands.metrics import define, metrics
from tracker_client.cli.commands.retention import retention
from tracker_client.cli.commands.rewind import rewind
from tracker_client.cli.commands.runs import experiments, runs
from tracker_client.cli.commands.show import show
from tracker_client.cli.commands.stop import stop
from tracker_client.cli.commands.summary import summary
from tracker_client.cli.commands.sync import sync
from tracker_client.cli.commands.tail import tail
from tracker_client.cli.commands.version import version

_READ = "Look"
_WRITE = "Change"
_MOVE = "Bring in and take out"
app = typer.Typer(
    name="tracker",
    help="Look at runs, compare them, stop them; bring logs in and take points out.",
    epilog="In a pipe, lists are tab-separated lines with a header. Exit codes: 0 fine, 1 something failed, "
    "2 wrong usage, 3 no server answers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for panel, functions in {
    _READ: (runs, experiments, show, summary, metrics, history, compare, tail),
    _WRITE: (stop, rewind, edit, define, delete, undelete, retention),
    _MOVE: (import_, export, sync),
}.items():
    for function in functions:
        app.command(function.__name__.rstrip("_"), rich_help_panel=panel)(function)
app.command(rich_help_panel="About")(version)


def run() -> None:
    """Runs the command line."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal of another encoding gets question marks rather than an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app(prog_name="tracker")
