"""Events that could not be published when they were due: kept until they are, so that nothing else has to wait."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, select

from tracker_server.ids import new_id
from tracker_server.store.bulk import Bulk
from tracker_server.store.tables import owed_events


def owe(connection: Connection, bulk: Bulk, lowest: Mapping[str, int]) -> None:
    """Notes that the ends of these runs' attempts, from the given number on, are still to be told of."""
    # Each time under an id of its own: what is owed while an older debt is being paid stays owed.
    rows = [{"id": new_id(), "run_id": run_id, "attempt": attempt} for run_id, attempt in sorted(lowest.items())]
    bulk.insert_missing(connection, owed_events, rows)


def owed(connection: Connection, limit: int) -> tuple[list[str], Mapping[str, int]]:
    """Ids of what is owed, some at a time, and the runs concerned, each with its lowest attempt."""
    rows = connection.execute(select(owed_events).limit(limit)).all()
    lowest: dict[str, int] = {}
    for row in rows:
        lowest[row.run_id] = min(row.attempt, lowest.get(row.run_id, row.attempt))
    return [row.id for row in rows], lowest


def forgive(connection: Connection, ids: Collection[str]) -> None:
    """Notes that these have been told of."""
    connection.execute(owed_events.delete().where(owed_events.c.id.in_(ids)))
