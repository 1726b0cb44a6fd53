"""Options and arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tracker.v1.resources_pb2 import RunStatus

CONNECTION = "Connection"

Server = Annotated[
    str | None,
    typer.Option(
        envvar="TRACKER_SERVER",
        metavar="HOST:PORT",
        help="The server; https://HOST:PORT for TLS. Without: 127.0.0.1:50051.",
        rich_help_panel=CONNECTION,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(envvar="TRACKER_API_KEY", metavar="KEY", help="The server's API key.", rich_help_panel=CONNECTION),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
MinStep = Annotated[int | None, typer.Option(help="From this step on.")]
MaxStep = Annotated[int | None, typer.Option(help="Up to this step.")]


class StatusName(StrEnum):
    """Statuses as they are typed and shown."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    LOST = "lost"


def status_of(name: StatusName) -> RunStatus.ValueType:
    """The contract's value."""
    return RunStatus.Value(f"RUN_STATUS_{name.name}")
