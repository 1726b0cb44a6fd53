"""Which runs and experiments are seen: those that were not deleted."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, false, select

from tracker_server.store.tables import experiments, runs


def visible_runs() -> ColumnElement[bool]:
    """Runs that were not deleted, by themselves or with their experiment."""
    gone = select(experiments.c.experiment_id).where(experiments.c.deleted_ms.is_not(None))
    return and_(runs.c.deleted_ms.is_(None), runs.c.purged == false(), runs.c.experiment_id.not_in(gone))


def restorable_runs() -> ColumnElement[bool]:
    """Those and the deleted ones that can still be restored."""
    return runs.c.purged == false()
