"""What is hidden: deleted runs, runs of deleted experiments, deleted experiments. Every read asks here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, and_, false, func, or_, select, true

from tracker_server import limits
from tracker_server.errors import ExperimentNotFound, RunNotFound
from tracker_server.store.tables import experiments, runs


def visible_runs(*, show_deleted: bool = False) -> ColumnElement[bool]:
    """Runs that are neither deleted nor of a deleted experiment; with `show_deleted`, those too, until they are purged.

    A condition for a query that has `runs`.
    """
    if show_deleted:
        return runs.c.purged == false()
    # Whatever is purged was deleted. NOT IN reads the few deleted experiments once, and leaves PostgreSQL the plan that it
    # has without; NOT EXISTS, a join to it, made it read and sort all runs of an experiment for the first page.
    deleted = select(experiments.c.experiment_id).where(experiments.c.deleted_ms.is_not(None))
    return and_(undeleted_runs(), runs.c.experiment_id.not_in(deleted))


def undeleted_runs() -> ColumnElement[bool]:
    """The same of runs whose experiment is known not to be deleted, or does not matter."""
    return runs.c.deleted_ms.is_(None)


def deleted_runs() -> ColumnElement[bool]:
    """Runs that were deleted by themselves, and of which there is still something. An index has just these."""
    return and_(runs.c.deleted_ms.is_not(None), runs.c.experiment_id != "")


def visible_experiments(*, show_deleted: bool = False) -> ColumnElement[bool]:
    """Experiments that are not deleted; with `show_deleted`, those too. A condition for a query that has `experiments`."""
    return true() if show_deleted else experiments.c.deleted_ms.is_(None)


def hidden_before(before_ms: int) -> ColumnElement[bool]:
    """Runs hidden since `before_ms` or longer, or being purged; for a query of `runs` outer-joined with `experiments`.

    A run that was made in an experiment deleted before is hidden since it was made.
    """
    with_experiment = and_(experiments.c.deleted_ms <= before_ms, runs.c.created_ms <= before_ms)
    return or_(and_(deleted_runs(), or_(runs.c.deleted_ms <= before_ms, runs.c.purged)), with_experiment)


def explain(
    connection: Connection, error: RunNotFound | ExperimentNotFound, restore_ms: int
) -> RunNotFound | ExperimentNotFound:
    """The same error, for callers: says of what was deleted that it was, and until when it can be restored."""
    if isinstance(error, ExperimentNotFound):
        name = error.metadata["experiment_id"]
        deleted_ms = connection.execute(
            select(experiments.c.deleted_ms).where(experiments.c.experiment_id == name)
        ).scalar()
        if deleted_ms is None:
            return error
        message = f"experiment {name!r} was deleted; {_way_back('UndeleteExperiment', deleted_ms, restore_ms)}"
        return ExperimentNotFound(message, **error.metadata)
    wanted = error.metadata["run_id"].split(",")
    joined = runs.outerjoin(experiments, experiments.c.experiment_id == runs.c.experiment_id)
    columns = runs.c.run_id, runs.c.experiment_id, runs.c.purged, runs.c.deleted_ms
    query = select(*columns, experiments.c.deleted_ms.label("experiment_ms")).select_from(joined)
    found = {row.run_id: row for row in connection.execute(query.where(runs.c.run_id.in_(wanted)))}
    unknown = [run_id for run_id in wanted if run_id not in found]
    told = [f"no run {', '.join(map(repr, unknown))}"] if unknown else []
    for run_id, row in found.items():
        if row.purged:
            told.append(f"run {run_id!r} was deleted and is purged")
        elif row.deleted_ms is not None:
            told.append(f"run {run_id!r} was deleted; {_way_back('UndeleteRun', row.deleted_ms, restore_ms)}")
        elif row.experiment_ms is not None:
            way_back = _way_back("UndeleteExperiment", row.experiment_ms, restore_ms)
            told.append(f"the experiment {row.experiment_id!r} of run {run_id!r} was deleted; {way_back}")
    return RunNotFound("; ".join(told), **error.metadata) if told else error


def purged_runs(connection: Connection, run_ids: Iterable[str]) -> set[str]:
    """Those of these runs of which nothing is left, or will be."""
    query = select(runs.c.run_id).where(runs.c.run_id.in_(sorted(run_ids)), runs.c.purged)
    return set(connection.execute(query).scalars())


def run_count() -> ColumnElement[int]:
    """How many runs an experiment has, for a query that has `experiments`. Both parts read nothing but an index."""
    own = runs.c.experiment_id == experiments.c.experiment_id
    every = select(func.count()).select_from(runs).where(own).correlate(experiments).scalar_subquery()
    deleted = select(func.count()).select_from(runs).where(own, deleted_runs()).correlate(experiments).scalar_subquery()
    return every - deleted


def _way_back(call: str, deleted_ms: int, restore_ms: int) -> str:
    until = datetime.fromtimestamp(min(deleted_ms + restore_ms, limits.MAX_TIME_MS) / 1000, UTC)
    return f"{call} restores it until {until.isoformat(timespec='seconds').replace('+00:00', 'Z')}"
