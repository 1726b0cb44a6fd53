"""A watcher of a store, as a server has one: reads page by page from its cursor on, and remembers what it was given."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from tests.contract.store_state import vars_of
from tracker_server.consumer.flusher import hidden_or_shown
from tracker_server.model.records import RunChange
from tracker_server.model.watching import Cursor, RunPosition, WatchQuery
from tracker_server.model.writes import Write
from tracker_server.store.store import Store
from tracker_server.store.tables import experiments

EVERYTHING = WatchQuery((), "", (), 1_000)


@dataclass
class StoreWatcher:
    """What it was given, and its cursor."""

    store: Store
    cursor: Cursor
    query: WatchQuery = EVERYTHING
    page: int = 100
    given: list[RunChange] = field(default_factory=list)

    @classmethod
    def from_now(cls, store: Store, query: WatchQuery = EVERYTHING, page: int = 100) -> StoreWatcher:
        """Sees what changes from here on."""
        return cls(store, Cursor(store.revisions()), query, page)

    @classmethod
    def with_snapshot(cls, store: Store, query: WatchQuery = EVERYTHING, page: int = 100) -> StoreWatcher:
        """Begins with what is there."""
        return cls(store, Cursor(store.revisions(), snapshot=RunPosition(2**63 - 1, "")), query, page)

    def read(self) -> bool:
        """Reads a page; whether more follows."""
        count = 0

        def add(change: RunChange) -> bool:
            nonlocal count
            count += 1
            self.given.append(change)
            return count < self.page

        progress = self.store.read_watched(self.query, self.cursor, add)
        self.cursor = progress.cursor
        return progress.more or progress.behind

    def reconnect(self) -> None:
        """Goes on with what a revision holds of a cursor."""
        cursor = self.cursor
        self.cursor = Cursor(cursor.revisions, cursor.position, cursor.snapshot)

    def catch_up(self) -> list[RunChange]:
        """Reads until there is nothing more; returns what was given meanwhile."""
        before = len(self.given)
        while self.read():
            pass
        return self.given[before:]

    def check_order(self) -> None:
        """Nothing was given twice, and of each run always something newer."""
        seen: dict[str, int] = {}
        for change in self.given:
            assert change.revision > seen.get(change.run.run_id, -1), change.run.run_id
            seen[change.run.run_id] = change.revision

    def latest(self) -> dict[str, dict[str, Any]]:
        """The last that was given of each run."""
        return {change.run.run_id: state_of(change) for change in self.given}


def state_of(change: RunChange) -> dict[str, Any]:
    """What was given of a run, as values that compare."""
    return {
        # Signs of life are no changes.
        "run": {name: value for name, value in vars_of(change.run).items() if name != "last_seen_ms"},
        "metrics": {metric.name: _metric(metric) for metric in change.metrics},
        "experiment_deleted_ms": change.experiment_deleted_ms,
    }


def state_in(store: Store, run_id: str) -> dict[str, Any]:
    """The same, of a run as it is, deleted or not."""
    details = store.read_run(run_id, "", 1_000, show_deleted=True)
    return {
        "run": {name: value for name, value in vars_of(details.run).items() if name != "last_seen_ms"},
        "metrics": {metric.name: _metric(metric) for metric in details.metrics},
        "experiment_deleted_ms": experiment_deleted_ms(store, details.run.experiment_id),
    }


def experiment_deleted_ms(store: Store, experiment_id: str) -> int | None:
    """When an experiment was deleted; None: it is not, or not there."""
    query = select(experiments.c.deleted_ms).where(experiments.c.experiment_id == experiment_id)
    with store._reader.connect() as connection:
        return connection.execute(query).scalar()


@dataclass
class Telling:
    """Tells watchers of experiments that were deleted or restored, as a consumer does, a page at a time."""

    store: Store
    page: int = 100
    _owed: list[tuple[str, RunPosition | None]] = field(default_factory=list)

    def flushed(self, writes: Sequence[Write]) -> None:
        """These were stored."""
        self._owed += [(experiment_id, None) for experiment_id in hidden_or_shown(writes)]

    def advance(self) -> bool:
        """Tells of some runs; whether that was not all."""
        if self._owed:
            experiment_id, after = self._owed.pop(0)
            _, after = self.store.revise_experiment(experiment_id, after, self.page)
            if after is not None:
                self._owed.insert(0, (experiment_id, after))
        return bool(self._owed)


def wandering(source: random.Random) -> int:
    """A page size: mostly small, so that pages end everywhere."""
    return source.choice([1, 1, 2, 3, 7, 100])


def _metric(metric: Any) -> tuple[Any, ...]:
    totals = metric.totals
    # The sums depend on the order in which they were added up, by a rounding.
    return totals.count, totals.finite_count, repr(totals.last), repr(totals.min), repr(totals.max), repr(metric.final)
