"""`tracker retention EXPERIMENT`: how long the runs of an experiment are kept."""

from __future__ import annotations

import uuid
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from tracker.v1.resources_pb2 import Retention
from tracker.v1.tracker_service_pb2 import ExperimentChanges, UpdateExperimentRequest
from tracker_client.cli import texts
from tracker_client.cli.options import ApiKey, Server
from tracker_client.cli.session import connection, misuse


def retention(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="The experiment's id.")],
    delete_runs: Annotated[
        int | None, typer.Option(min=0, metavar="DAYS", help="Delete runs so long after their end; 0: never.")
    ] = None,
    drop_points: Annotated[
        int | None,
        typer.Option(min=0, metavar="DAYS", help="Drop points, but not summaries, so long after; 0: never."),
    ] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Keep everything.")] = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Say how long the runs of an experiment are kept once they have ended; without options, show it."""
    if forever and (delete_runs is not None or drop_points is not None):
        misuse("--forever goes with no other option")
    with connection(server, api_key) as client:
        kept = client.get_summary(experiment).experiment.retention
        if forever or delete_runs is not None or drop_points is not None:
            if forever:
                kept = Retention()
            if delete_runs is not None:
                kept.delete_runs_after_days = delete_runs
            if drop_points is not None:
                kept.drop_points_after_days = drop_points
            client.update_experiment(
                UpdateExperimentRequest(
                    experiment_id=experiment,
                    changes=ExperimentChanges(retention=kept),
                    update_mask=FieldMask(paths=["retention"]),
                    # So that a retry is the same write.
                    writer_id=str(uuid.uuid4()),
                    sequence=1,
                )
            )
        typer.echo(f"experiment {experiment}: {_told(kept)}")


def _told(kept: Retention) -> str:
    rules = [
        f"{what} {texts.plural(days, 'day')} after their end"
        for what, days in (
            ("runs are deleted", kept.delete_runs_after_days),
            ("points are dropped", kept.drop_points_after_days),
        )
        if days
    ]
    return ", ".join(rules) or "runs are kept for ever"
