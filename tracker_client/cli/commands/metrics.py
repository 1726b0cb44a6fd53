"""`tracker metrics` and `tracker define`: which metrics an experiment has, and what they mean."""

from __future__ import annotations

import uuid
from enum import StrEnum
from itertools import islice
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from tracker.v1 import resources_pb2 as resources
from tracker.v1.tracker_service_pb2 import ExperimentChanges, UpdateExperimentRequest
from tracker_client.cli import output, plain, texts
from tracker_client.cli.options import ApiKey, AsJson, Server
from tracker_client.cli.output import Column, Table
from tracker_client.cli.session import connection

_COLUMNS = (
    Column("metric", "metric", whole=True),
    Column("runs", "runs", right=True),
    Column("goal", "goal"),
    Column("unit", "unit", spare=True),
    Column("x_metric", "x axis", spare=True),
    Column("description", "description", spare=True),
)
Experiment = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="The experiment's id.")]


class GoalName(StrEnum):
    """Goals as they are typed."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


def metrics(
    experiment: Experiment,
    prefix: Annotated[str, typer.Option("--prefix", "-p", help="Only those whose names begin with this.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many; 0: all.")] = 1_000,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """List the metrics of an experiment, and what they mean."""
    with connection(server, api_key) as client:
        found = list(islice(client.list_metrics(experiment, prefix=prefix), limit or None))
        rows = [
            [
                output.text(one.name),
                output.count(one.run_count),
                output.text(texts.goal(one.definition.goal)),
                output.text(one.definition.unit),
                output.text(one.definition.x_metric),
                output.text(one.definition.description, width=80),
            ]
            for one in found
        ]
        output.print_list(Table(_COLUMNS, rows), map(plain.listed_metric, found), as_json=as_json)


def define(
    experiment: Experiment,
    metric: Annotated[str, typer.Argument(metavar="METRIC", help="A name; or the beginning of several and *.")],
    goal: Annotated[GoalName | None, typer.Option("--goal", "-g", help="Which of two values is better.")] = None,
    x: Annotated[str, typer.Option(metavar="METRIC", help="Its x axis. Without: the step.")] = "",
    unit: Annotated[str, typer.Option(help="Such as s or tokens/s.")] = "",
    description: Annotated[str, typer.Option(help="A sentence for people.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the definition away.")] = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Say what a metric means: its goal, unit and x axis. Replaces what was said of it."""
    definition = resources.MetricDefinition(
        name=metric,
        goal=resources.METRIC_GOAL_UNSPECIFIED
        if goal is None
        else resources.MetricGoal.Value(f"METRIC_GOAL_{goal.name}"),
        x_metric=x,
        unit=unit,
        description=description,
    )
    with connection(server, api_key) as client:
        # A change of an experiment that is not there would make it.
        client.get_summary(experiment)
        client.update_experiment(
            UpdateExperimentRequest(
                experiment_id=experiment,
                changes=ExperimentChanges(metric_definitions=() if remove else (definition,)),
                update_mask=FieldMask(paths=[f"metric_definitions.{metric}"]),
                # So that a retry is the same write.
                writer_id=str(uuid.uuid4()),
                sequence=1,
            )
        )
        typer.echo(f"metric {metric} of experiment {experiment} {'is no longer' if remove else 'is'} defined")
