"""`tracker edit RUN`: what people may change of a run."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from tracker.v1.tracker_service_pb2 import RunChanges, UpdateRunRequest
from tracker_client.cli.options import ApiKey, RunId, Server
from tracker_client.cli.session import connection, misuse


def edit(
    run: RunId,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    notes: Annotated[str | None, typer.Option(help="Free text; replaces what is there.")] = None,
    group: Annotated[str | None, typer.Option(help="A name that it shares with the runs it belongs with.")] = None,
    parent: Annotated[str | None, typer.Option(metavar="RUN", help="The run that it is a part of.")] = None,
    add_tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A label more. May be repeated.")] = None,
    remove_tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A label less. May be repeated.")] = None,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Change a run's name, notes, group, parent or labels. What the run itself says later does not undo it."""
    fields = {"name": name, "notes": notes, "group": group, "parent_run_id": parent}
    given = [field for field, value in fields.items() if value is not None]
    tags = [*(add_tag or ()), *(remove_tag or ())]
    if not given and not tags:
        misuse("nothing to change; see `tracker edit --help`")
    with connection(server, api_key) as client:
        # A change of a run that is not there would make it.
        client.get_run(run)
        client.update_run(
            UpdateRunRequest(
                run_id=run,
                changes=RunChanges(
                    name=name or "",
                    notes=notes or "",
                    group=group or "",
                    parent_run_id=parent or "",
                    tags=add_tag or (),
                ),
                update_mask=FieldMask(paths=[*given, *(f"tags.{tag}" for tag in tags)]),
            )
        )
        typer.echo(f"run {run} changed")
