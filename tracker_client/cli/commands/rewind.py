"""`tracker rewind RUN STEP`: a run goes on from a checkpoint."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from tracker.v1.tracker_service_pb2 import RewindRunRequest
from tracker_client.cli.options import ApiKey, RunId, Server
from tracker_client.cli.session import connection


def rewind(
    run: RunId,
    step: Annotated[int, typer.Argument(metavar="STEP", help="The last step that stays.")],
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Open a new attempt of a run that goes on from a checkpoint.

    Points beyond the step are kept, and no longer shown. Prints the attempt's number: the job that goes on must be
    started with it (TRACKER_ATTEMPT).
    """
    with connection(server, api_key) as client:
        # A rewind of a run that is not there would make it.
        client.get_run(run)
        answer = client.rewind_run(RewindRunRequest(run_id=run, step=step, attempt=time.time_ns() // 1_000_000))
        typer.echo(answer.attempt)
