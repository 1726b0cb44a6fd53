"""Which writes have been applied: the sequences of each writer, as ranges, in the same transaction as their data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Table

from tracker_server import limits
from tracker_server.model.ranges import EMPTY, Ranges
from tracker_server.model.writes import CloseWriter, Heartbeat, LogPoints, UpdateExperiment, Write
from tracker_server.store.bulk import Bulk
from tracker_server.store.tables import experiment_writers, writers
from tracker_server.store.visible import purged_runs

_MAX_COUNT = 2**63 - 1
"""What the column holds."""


@dataclass(slots=True)
class WriterState:
    """What is known of one writer of one run or experiment."""

    scope_id: str
    writer_id: str
    applied: Ranges = EMPTY
    dead: Ranges = EMPTY
    writer_no: int = 0
    final_sequence: int | None = None
    dropped_points: int = 0
    open_ended: bool = True
    """Whether each of its writes is, see model/writes.py."""
    fresh: list[int] = field(default_factory=list)
    """Sequences that this flush adds."""
    changed: bool = False


@dataclass(frozen=True, slots=True)
class DeadWrite:
    """The identity of a write that lies in the dead-letter queue."""

    scope_id: str
    experiment: bool
    writer_id: str
    sequence: int
    open_ended: bool
    """See model/writes.py."""


@dataclass(frozen=True, slots=True)
class WriterSets:
    """What became of a writer's writes."""

    applied: Ranges
    dead: Ranges
    final_sequence: int | None
    purged: bool = False
    """Nothing is known of it: its run was purged, and nothing that comes is stored."""


NOTHING_LEFT = WriterSets(EMPTY, EMPTY, None, purged=True)
"""Of the writers of a purged run."""


class Ledger:
    """The writers that a flush touches."""

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self._runs: dict[tuple[str, str], WriterState] = {}
        self._experiments: dict[tuple[str, str], WriterState] = {}
        self._purged: set[str] = set()
        self._by_run: defaultdict[str, list[WriterState]] | None = None
        """The states of self._runs by run, made when first asked for: after every write was admitted."""

    def load(self, connection: Connection, writes: Iterable[Write]) -> None:
        """Reads what was applied before. To be called under the partitions' locks."""
        run_keys: set[tuple[str, str]] = set()
        experiment_keys: set[tuple[str, str]] = set()
        for write in writes:
            if not isinstance(write.body, Heartbeat):
                keys = experiment_keys if isinstance(write.body, UpdateExperiment) else run_keys
                keys.add((write.scope_id, write.writer_id))
        self._runs = _load(connection, self._bulk, writers, run_keys)
        self._experiments = _load(connection, self._bulk, experiment_writers, experiment_keys)

    def admit(self, write: Write) -> bool:
        """Whether the write is new; remembers it then."""
        if not write.sequence:
            return True
        state = self._state(write)
        if write.sequence in state.applied or (state.fresh and state.fresh[-1] == write.sequence):
            return False
        # Writes come sorted by writer and sequence, so that a repetition within the batch is next to its twin.
        state.fresh.append(write.sequence)
        state.changed = True
        return True

    def note(self, write: Write) -> None:
        """Takes from an admitted write what is the writer's own."""
        if isinstance(write.body, Heartbeat):
            return
        state = self._state(write)
        state.open_ended &= write.open_ended
        if isinstance(write.body, CloseWriter):
            if state.final_sequence is None or write.body.last_sequence > state.final_sequence:
                state.final_sequence = write.body.last_sequence
                state.changed = True
        elif isinstance(write.body, LogPoints):
            state.dropped_points = min(state.dropped_points + write.body.dropped, _MAX_COUNT)

    def number(self, run_id: str, counter: int) -> int:
        """Gives new writers of a run their numbers, from `counter` on. Returns the counter afterwards."""
        for state in sorted(self._of_run(run_id), key=attrgetter("writer_id")):
            if state.changed and not state.writer_no:
                counter += 1
                state.writer_no = counter
        return counter

    def numbers(self, run_id: str) -> Mapping[str, int]:
        """Writer ids of a run to their numbers."""
        return {state.writer_id: state.writer_no for state in self._of_run(run_id)}

    def new_writer_runs(self) -> set[str]:
        """Runs that have writers without a number."""
        return {scope for (scope, _), state in self._runs.items() if state.changed and not state.writer_no}

    def save(self, connection: Connection) -> None:
        """Writes what changed."""
        self._bulk.upsert(
            connection,
            writers,
            [
                {
                    "run_id": state.scope_id,
                    "writer_id": state.writer_id,
                    "writer_no": state.writer_no,
                    "applied": str(state.applied.add(state.fresh)),
                    "dead": str(state.dead.remove(state.fresh)),
                    "final_sequence": state.final_sequence,
                    "dropped_points": state.dropped_points,
                    "server_assigned": state.open_ended,
                }
                for _, state in sorted(self._runs.items())
                if state.changed
            ],
        )
        self._bulk.upsert(
            connection,
            experiment_writers,
            [
                {
                    "experiment_id": state.scope_id,
                    "writer_id": state.writer_id,
                    "applied": str(state.applied.add(state.fresh)),
                    "dead": str(state.dead.remove(state.fresh)),
                }
                for _, state in sorted(self._experiments.items())
                if state.changed
            ],
        )

    def load_dead(self, connection: Connection, dead: Iterable[DeadWrite]) -> None:
        """Reads the writers of dead writes."""
        named = [write for write in dead if _is_id(write.scope_id) and _is_id(write.writer_id)]
        run_keys = {(write.scope_id, write.writer_id) for write in named if not write.experiment}
        experiment_keys = {(write.scope_id, write.writer_id) for write in named if write.experiment}
        self._runs = _load(connection, self._bulk, writers, run_keys)
        self._experiments = _load(connection, self._bulk, experiment_writers, experiment_keys)
        self._purged = purged_runs(connection, {run_id for run_id, _ in run_keys})

    def mark_dead(self, write: DeadWrite) -> None:
        """Puts a write into its writer's dead set, unless it was applied after all, or can have no place there."""
        if write.sequence < 1 or not (_is_id(write.scope_id) and _is_id(write.writer_id)):
            return
        if not write.experiment and write.scope_id in self._purged:
            return
        state = self._get(self._experiments if write.experiment else self._runs, write.scope_id, write.writer_id)
        if write.sequence not in state.applied:
            state.dead = state.dead.add([write.sequence])
            state.open_ended &= write.open_ended
            state.changed = True

    def _of_run(self, run_id: str) -> list[WriterState]:
        if self._by_run is None:
            self._by_run = defaultdict(list)
            for (scope, _), state in self._runs.items():
                self._by_run[scope].append(state)
        return self._by_run[run_id]

    def _state(self, write: Write) -> WriterState:
        states = self._experiments if isinstance(write.body, UpdateExperiment) else self._runs
        return self._get(states, write.scope_id, write.writer_id)

    @staticmethod
    def _get(states: dict[tuple[str, str], WriterState], scope_id: str, writer_id: str) -> WriterState:
        state = states.get((scope_id, writer_id))
        if state is None:
            state = states[scope_id, writer_id] = WriterState(scope_id, writer_id)
        return state


def _is_id(text: str) -> bool:
    return 0 < len(text) <= limits.MAX_ID_LENGTH and text.isprintable()


def _load(
    connection: Connection, bulk: Bulk, table: Table, keys: set[tuple[str, str]]
) -> dict[tuple[str, str], WriterState]:
    states = {}
    key = [column.name for column in table.primary_key]
    for row in bulk.rows_by_keys(connection, table, table.c.keys(), key, sorted(keys)) if keys else ():
        state = _writer_state(key[0], row)
        states[(state.scope_id, state.writer_id)] = state
    return states


def _writer_state(scope: str, row: Mapping[str, Any]) -> WriterState:
    return WriterState(
        scope_id=row[scope],
        writer_id=row["writer_id"],
        applied=Ranges.parse(row["applied"]),
        dead=Ranges.parse(row["dead"]),
        writer_no=row.get("writer_no", 0),
        final_sequence=row.get("final_sequence"),
        dropped_points=row.get("dropped_points", 0),
        open_ended=row.get("server_assigned", False),
    )
