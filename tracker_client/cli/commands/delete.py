"""`tracker delete` and `tracker undelete`: takes runs or an experiment out of sight, and brings them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from tracker.v1 import tracker_service_pb2 as messages
from tracker_client.cli import texts
from tracker_client.cli.options import ApiKey, Server
from tracker_client.cli.session import connection, misuse
from tracker_client.client import TrackerClient

Runs = Annotated[list[str] | None, typer.Argument(metavar="RUN…", help="Ids of runs.")]
Experiment = Annotated[
    str, typer.Option("--experiment", "-e", metavar="EXPERIMENT", help="An experiment, with its runs.")
]


def delete(
    runs: Runs = None,
    experiment: Experiment = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Delete runs, or an experiment with its runs.

    They are out of sight at once, can be brought back for a while (`tracker undelete`), and are then removed for good.
    """
    _check(runs, experiment)
    with connection(server, api_key) as client:
        # A deletion of what is not there would leave a name behind.
        what = _present(client, runs or (), experiment)
        if not yes:
            typer.confirm(f"delete {what}?", abort=True, err=True)
        for run in runs or ():
            client.delete_run(messages.DeleteRunRequest(run_id=run))
        if experiment:
            client.delete_experiment(messages.DeleteExperimentRequest(experiment_id=experiment))
        kept = client.get_server_info().limits.restore_seconds
        typer.echo(f"{what} deleted; `tracker undelete` brings it back for {texts.duration(kept)}")


def undelete(runs: Runs = None, experiment: Experiment = "", server: Server = None, api_key: ApiKey = None) -> None:
    """Bring back deleted runs, or an experiment with its runs."""
    _check(runs, experiment)
    with connection(server, api_key) as client:
        for run in runs or ():
            # One that was purged, or never was, is not there to be brought back.
            client.get_run(run, show_deleted=True)
        for run in runs or ():
            client.undelete_run(messages.UndeleteRunRequest(run_id=run))
        if experiment:
            client.undelete_experiment(messages.UndeleteExperimentRequest(experiment_id=experiment))
        typer.echo(f"{_named(runs or (), experiment)} brought back")


def _check(runs: Sequence[str] | None, experiment: str) -> None:
    if bool(runs) == bool(experiment):
        misuse("name runs, or an experiment with --experiment")


def _present(client: TrackerClient, runs: Sequence[str], experiment: str) -> str:
    """What is to be deleted, in words. Raises TrackerError where it is not there."""
    for run in runs:
        client.get_run(run)
    if not experiment:
        return _named(runs, "")
    return f"{_named((), experiment)} with {texts.plural(client.get_summary(experiment).experiment.run_count, 'run')}"


def _named(runs: Sequence[str], experiment: str) -> str:
    if experiment:
        return f"experiment {experiment}"
    return f"run {runs[0]}" if len(runs) == 1 else texts.plural(len(runs), "run")
