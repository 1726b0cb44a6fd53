"""`tracker stop RUN`: asks a run to stop."""

from __future__ import annotations

from typing import Annotated

import typer

from tracker.v1.resources_pb2 import RUN_STATUS_LOST, RUN_STATUS_RUNNING
from tracker.v1.tracker_service_pb2 import StopRunRequest
from tracker_client.cli import texts
from tracker_client.cli.options import ApiKey, RunId, Server
from tracker_client.cli.session import connection, fail


def stop(
    run: RunId,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for people.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take the request back.")] = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Ask a run to stop.

    It hears of it with its next heartbeat, and ends when it is ready to. If it is started again later, it goes on.
    """
    with connection(server, api_key) as client:
        # A change of a run that is not there would make it.
        found = client.get_run(run).run
        if not undo and found.status not in (RUN_STATUS_RUNNING, RUN_STATUS_LOST):
            fail(f"run {run} is {texts.status(found.status)} already")
        client.stop_run(StopRunRequest(run_id=run, reason=reason, withdraw=undo))
        done = "is no longer asked to stop" if undo else "is asked to stop; it hears of it with its next heartbeat"
        typer.echo(f"run {run} {done}")
