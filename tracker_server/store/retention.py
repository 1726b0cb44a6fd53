"""Retention: runs that ended long enough ago are deleted, or lose their points, as their experiment wants it.

A run ended so long ago when it says so, and nothing has been heard of it, nor of its existence, since then: imports and
wrong clocks get the same time as everybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, or_, select, update

from tracker_server import limits
from tracker_server.model.status import TERMINAL
from tracker_server.model.writes import UpdateRun, Write
from tracker_server.partitions import partition_of
from tracker_server.store.bulk import Bulk
from tracker_server.store.flush import Outcome
from tracker_server.store.purging import Place, Snapshot, Transaction
from tracker_server.store.revision_book import revise
from tracker_server.store.tables import chunk_tail, chunks, experiments, runs, series
from tracker_server.store.visible import undeleted_runs

Apply: TypeAlias = Callable[[Connection, Sequence[Write]], Outcome]
"""A flush within a transaction that has begun."""
DAY_MS = 86_400_000
_WRITER = "retention"


@dataclass(frozen=True, slots=True)
class Rule:
    """What an experiment wants. Days after a run's end; 0: never."""

    experiment_id: str
    delete_runs_after_days: int
    drop_points_after_days: int


class Retention:
    """The part of the store that applies retention. Methods raise StoreUnavailable."""

    def __init__(self, transaction: Transaction, snapshot: Snapshot, apply: Apply, bulk: Bulk, partitions: int) -> None:
        self._transaction = transaction
        self._snapshot = snapshot
        self._apply = apply
        self._bulk = bulk
        self._partitions = partitions

    def rules(self) -> list[Rule]:
        """Those of all experiments that are not deleted."""
        query = select(experiments.c.experiment_id, experiments.c.retention).where(
            experiments.c.retention.is_not(None), experiments.c.deleted_ms.is_(None)
        )
        with self._snapshot() as connection:
            return [Rule(name, **retention) for name, retention in connection.execute(query)]

    def runs_to_delete(self, experiment_id: str, before_ms: int, after: str, limit: int) -> list[str]:
        """Runs of an experiment with an id beyond `after` that ended at `before_ms` or earlier, by id."""
        with self._snapshot() as connection:
            return list(connection.execute(_page(experiment_id, before_ms, after, limit)).scalars())

    def delete(self, run_id: str, before_ms: int, now_ms: int) -> Outcome | None:
        """Deletes a run as DeleteRun does.

        None: it did not end at `before_ms` or earlier after all, or was restored later than that.
        """
        body = UpdateRun(now_ms, {"deleted_ms": now_ms}, {}, from_outside=True)
        write = Write(run_id, _WRITER, 0, 0, now_ms, replay=False, server_assigned=True, body=body)
        query = select(runs.c.registers).where(runs.c.run_id == run_id, _ended(before_ms))
        with self._transaction({partition_of(run_id, self._partitions)}) as connection:
            registers = connection.execute(query).scalar()
            if registers is None or _restored_ms(registers) > before_ms:
                return None
            return self._apply(connection, [write])

    def runs_to_thin(self, experiment_id: str, before_ms: int, after: str, limit: int) -> list[str]:
        """Runs of an experiment with an id beyond `after` that ended at `before_ms` or earlier and have points, by id."""
        has_points = or_(*(exists().where(table.c.run_id == runs.c.run_id) for table in (chunk_tail, chunks)))
        query = _page(experiment_id, before_ms, after, limit).where(has_points)
        with self._snapshot() as connection:
            return list(connection.execute(query).scalars())

    def begin_drop(self, run_id: str, before_ms: int, now_ms: int) -> Place | None:
        """Marks the points of a run as dropped, and says which are to be removed: those of the attempts there are now.

        From then on nothing makes its totals anew. None: there are series whose totals are stale, and must be refreshed
        first, or the run did not end so long ago after all.
        """
        own = runs.c.run_id == run_id
        with self._transaction({partition_of(run_id, self._partitions)}) as connection:
            stale = exists().where(series.c.run_id == run_id, series.c.stale)
            attempt = connection.execute(select(runs.c.attempt).where(own, _ended(before_ms), ~stale)).scalar()
            if attempt is None:
                return None
            connection.execute(update(runs).where(own).values(points_dropped_ms=now_ms))
            revise(connection, self._bulk, self._partitions, [run_id])
            return Place(points_only=True, up_to_attempt=attempt)


def _page(experiment_id: str, before_ms: int, after: str, limit: int) -> Select[Any]:
    found = runs.c.experiment_id == experiment_id, _ended(before_ms), runs.c.run_id > after
    return select(runs.c.run_id).where(*found).order_by(runs.c.run_id).limit(limit)


def _ended(before_ms: int) -> ColumnElement[bool]:
    """Not deleted, ended, and silent since."""
    moments = runs.c.ended_ms, runs.c.last_seen_ms, runs.c.created_ms
    silent = and_(*(moment <= before_ms for moment in moments))
    return and_(undeleted_runs(), runs.c.status.in_(sorted(TERMINAL)), silent)


def _restored_ms(registers: Mapping[str, Any]) -> int:
    """When a run was last restored after a deletion."""
    key = registers.get("deleted_ms")
    return limits.MIN_TIME_MS if key is None else int(key[1])
