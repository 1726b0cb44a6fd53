"""The runs, attempts and experiments that a flush touches: read, change, write back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select

from tracker_server.model.leases import Lease
from tracker_server.model.registers import FieldRegister, Key, MapRegister
from tracker_server.model.run import RUN_FIELDS, RUN_MAPS, AttemptState, RunState, apply_changes
from tracker_server.model.status import DEFAULT_EXPERIMENT, Status
from tracker_server.model.typed_json import Json
from tracker_server.model.writes import CompleteRun, RewindRun, StartRun, UpdateExperiment, UpdateRun, Write
from tracker_server.scopes import EXPERIMENT_LIST, STATS, experiment_scope
from tracker_server.store.bulk import Bulk
from tracker_server.store.tables import attempts, experiments, runs

_DETAILS = ("registers", "stop_ms", *RUN_FIELDS, *RUN_MAPS)
_LIGHT = tuple(name for name in runs.c.keys() if name not in _DETAILS)  # noqa: SIM118  # a collection of columns
_EXPERIMENT_FIELDS: Mapping[str, Json] = {"name": "", "notes": "", "retention": None, "deleted_ms": None}
_EXPERIMENT_MAPS = ("tags", "metadata", "metric_definitions")


class RunBook:
    """Runs by id."""

    def __init__(self, bulk: Bulk, lease: Lease) -> None:
        self._bulk = bulk
        self._lease = lease
        self.runs: dict[str, RunState] = {}
        self._purged: set[str] = set()
        self._stored_experiment: dict[str, str] = {}
        self._experiment_updates: dict[str, list[tuple[Write, UpdateExperiment]]] = {}
        self._named: dict[str, int] = {}

    def load(self, connection: Connection, writes: Iterable[Write]) -> None:
        """Reads the runs of these writes; their fields and maps only where a write changes them."""
        detailed, plain = set(), set()
        for write in writes:
            if isinstance(write.body, StartRun | CompleteRun | UpdateRun):
                detailed.add(write.scope_id)
            elif not isinstance(write.body, UpdateExperiment):
                plain.add(write.scope_id)
        self._load(connection, runs.c.keys(), detailed)
        self._load(connection, _LIGHT, plain - detailed)

    def load_more(self, connection: Connection, run_ids: Iterable[str]) -> None:
        """Reads runs that no write of this flush is for, without their fields and maps."""
        self._load(connection, _LIGHT, set(run_ids) - self.runs.keys())

    def is_taken(self, write: Write) -> bool:
        """Whether there is a place for it: nothing that comes for a purged run is stored."""
        return isinstance(write.body, UpdateExperiment) or write.scope_id not in self._purged

    def _rows(
        self, connection: Connection, table: Table, columns: Sequence[str], run_ids: Collection[str]
    ) -> Sequence[Mapping[str, Any]]:
        keys = [(run_id,) for run_id in sorted(run_ids)]
        return self._bulk.rows_by_keys(connection, table, columns, ["run_id"], keys) if keys else ()

    def apply(self, write: Write) -> None:
        """Applies what a new write does to its run or experiment; points are not this book's business."""
        body = write.body
        if isinstance(body, UpdateExperiment):
            self._experiment_updates.setdefault(write.scope_id, []).append((write, body))
            self._name(write.scope_id, write)
            return
        run = self.runs.get(write.scope_id)
        if run is None:
            granularity_ms = self._lease.seen_granularity_ms
            run = self.runs[write.scope_id] = RunState(write.scope_id, seen_granularity_ms=granularity_ms)
        if isinstance(body, StartRun | CompleteRun) and body.experiment_id:
            self._name(body.experiment_id, write)
        match body:
            case StartRun():
                run.start(write, body)
            case CompleteRun():
                run.complete(write, body)
            case UpdateRun():
                run.update(write, body)
            case RewindRun():
                run.rewind(write, body)
            case _:
                run.touch(write)

    def scopes(self, writes: Iterable[Write]) -> set[str]:
        """What is cached of these writes' experiments; duplicates included, since their bump may have been lost."""
        scopes = set()
        for write in writes:
            if isinstance(write.body, UpdateExperiment):
                scopes |= {experiment_scope(write.scope_id), EXPERIMENT_LIST}
                if "deleted_ms" in write.body.fields:
                    scopes.add(STATS)
            elif run := self.runs.get(write.scope_id):
                scopes.add(experiment_scope(run.experiment_id))
                stored = self._stored_experiment.get(run.run_id)
                if stored is not None and stored != run.experiment_id:
                    scopes.add(experiment_scope(stored))
                if run.is_new or stored != run.experiment_id or _changes_lists(write):
                    scopes |= {EXPERIMENT_LIST, STATS}
                if isinstance(write.body, CompleteRun) or run.newest.stands != run.status_stored:
                    scopes.add(STATS)
        for run in self.runs.values():
            # Lost without a write.
            if run.counters_changed and not run.is_new and run.newest.stands == Status.LOST != run.status_stored:
                scopes |= {experiment_scope(run.experiment_id), STATS}
        return scopes

    def left(self) -> dict[str, str]:
        """Runs that moved to another experiment, and the one that they were in before."""
        stored = self._stored_experiment.items()
        return {run_id: before for run_id, before in stored if self.runs[run_id].experiment_id != before}

    def finals_changed(self) -> list[RunState]:
        """Runs whose newest attempt, or its final metrics, changed."""
        return [
            run
            for run in self.runs.values()
            if run.counters_changed and run.newest.final_metrics.values != run.final_metrics
        ]

    def rewound(self) -> list[RunState]:
        """Runs whose explicit cuts changed."""
        return [run for run in self.runs.values() if run.rewound_from is not None]

    def save(self, connection: Connection) -> None:
        """Writes what changed."""
        self._save_experiments(connection)
        changed = [run for _, run in sorted(self.runs.items()) if run.counters_changed or run.details_changed]
        new = [run for run in changed if run.is_new]
        self._bulk.upsert(connection, runs, [_counters(run) | _details(run) for run in new])
        detailed = [run for run in changed if run.details_changed and not run.is_new]
        self._bulk.update(connection, runs, [_counters(run) | _details(run) for run in detailed])
        counted = [run for run in changed if not run.details_changed and not run.is_new]
        self._bulk.update(connection, runs, [_counters(run) for run in counted])
        self._bulk.upsert(
            connection,
            attempts,
            [
                _attempt_row(run.run_id, attempt)
                for run in changed
                for _, attempt in sorted(run.attempts.items())
                if attempt.changed
            ],
        )

    def _load(self, connection: Connection, columns: Sequence[str], run_ids: Collection[str]) -> None:
        found = []
        for row in self._rows(connection, runs, columns, run_ids):
            if row["purged"]:
                self._purged.add(row["run_id"])
                continue
            run = self.runs[row["run_id"]] = _run_state(row, self._lease.seen_granularity_ms)
            self._stored_experiment[run.run_id] = run.experiment_id
            found.append(run.run_id)
        for row in self._rows(connection, attempts, attempts.c.keys(), found):
            self.runs[row["run_id"]].attempts[row["attempt"]] = _attempt_state(row)

    def _save_experiments(self, connection: Connection) -> None:
        # Everybody inserts in the same order before anybody updates, so that two flushes cannot wait for each other.
        empty: dict[str, Any] = {"tags": [], "metadata": {}, "metric_definitions": {}, "registers": {}}
        self._bulk.insert_missing(
            connection,
            experiments,
            [{"experiment_id": name, "created_ms": moment, **empty} for name, moment in sorted(self._named.items())],
        )
        for name in sorted(self._named.keys() | self._experiment_updates.keys()):
            moment = self._named.get(name)
            if moment is not None:
                connection.execute(
                    experiments.update()
                    .where(experiments.c.experiment_id == name, experiments.c.created_ms > moment)
                    .values(created_ms=moment)
                )
            if updates := self._experiment_updates.get(name):
                self._update_experiment(connection, name, updates)

    def _name(self, experiment_id: str, write: Write) -> None:
        # The default experiment has always been there.
        if experiment_id != DEFAULT_EXPERIMENT:
            self._named[experiment_id] = min(write.accepted_ms, self._named.get(experiment_id, write.accepted_ms))

    def _update_experiment(
        self, connection: Connection, name: str, updates: list[tuple[Write, UpdateExperiment]]
    ) -> None:
        row = connection.execute(select(experiments).where(experiments.c.experiment_id == name)).mappings().one()
        fields, maps = _registers(dict(row), _EXPERIMENT_FIELDS, _EXPERIMENT_MAPS)
        for write, body in updates:
            apply_changes(fields, maps, body.fields, body.maps, write.key(body.changed_ms))
        self._bulk.update(connection, experiments, [{"experiment_id": name, **_register_columns(fields, maps)}])


def _changes_lists(write: Write) -> bool:
    body = write.body
    return isinstance(body, StartRun | CompleteRun) or (isinstance(body, UpdateRun) and "deleted_ms" in body.fields)


def _run_state(row: Mapping[str, Any], seen_granularity_ms: int) -> RunState:
    run = RunState(
        run_id=row["run_id"],
        experiment_id=row["experiment_id"],
        created_ms=row["created_ms"],
        cuts=tuple((attempt, step) for attempt, step in row["cuts"] or ()),
        series_count=row["series_count"],
        writer_count=row["writer_count"],
        final_metrics=row["final_metrics"],
        seen_granularity_ms=seen_granularity_ms,
        newest_stored=row["attempt"],
        status_stored=row["status"],
        times_stored=(row["created_ms"], row["started_ms"], row["heard_ms"]),
        purged=row["purged"],
        points_dropped=row["points_dropped_ms"] is not None,
        is_new=False,
        counters_changed=False,
    )
    if "registers" in row:
        run.fields, run.maps = _registers(row, RUN_FIELDS, RUN_MAPS)
        run.named = {name: Key(*key) for name, key in row["registers"].get("experiment", {}).items()}
    return run


def _attempt_state(row: Mapping[str, Any]) -> AttemptState:
    registers = row["registers"]
    return AttemptState(
        attempt=row["attempt"],
        first_accepted_ms=row["first_accepted_ms"],
        last_seen_ms=row["last_seen_ms"],
        status=FieldRegister.load(row["status"], registers.get("status")),
        started_ms=row["started_ms"],
        final_metrics=MapRegister.load(row["final_metrics"], registers.get("final_metrics")),
        # Set by the same writes as the status.
        reason=FieldRegister.load(row["reason"], registers.get("status")),
        lost_ms=row["lost_ms"],
        replayed_ms=registers.get("replayed_ms"),
        implied=row["implied"],
        is_new=False,
        changed=False,
    )


def _attempt_row(run_id: str, attempt: AttemptState) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "attempt": attempt.attempt,
        "status": attempt.status.value,
        "started_ms": attempt.started_ms,
        "first_accepted_ms": attempt.first_accepted_ms,
        "ended_ms": attempt.ended_ms,
        "last_seen_ms": attempt.last_seen_ms,
        "final_metrics": attempt.final_metrics.values,
        "reason": attempt.reason.value,
        "lost_ms": attempt.lost_ms,
        "implied": attempt.implied,
        "registers": {
            "status": attempt.status.save(),
            "final_metrics": attempt.final_metrics.save(),
            "replayed_ms": attempt.replayed_ms,
        },
    }


def _counters(run: RunState) -> dict[str, Any]:
    newest = run.newest
    return {
        "run_id": run.run_id,
        "status": newest.stands,
        "reason": newest.reason_now,
        "lost_ms": newest.lost_ms if newest.stands == Status.LOST else None,
        "cuts": [list(cut) for cut in run.cuts] or None,
        "attempt": newest.attempt,
        "heard_ms": newest.first_accepted_ms,
        "started_ms": newest.began_ms,
        "ended_ms": newest.ended_ms,
        "final_metrics": newest.final_metrics.values,
        "created_ms": run.created_ms,
        "last_seen_ms": run.last_seen_ms,
        "series_count": run.series_count,
        "writer_count": run.writer_count,
    }


def _details(run: RunState) -> dict[str, Any]:
    columns = _register_columns(run.fields, run.maps)
    columns["registers"]["experiment"] = {name: list(key) for name, key in run.named.items()}
    stop = run.fields["stop_requested"]
    columns["stop_ms"] = stop.key.time_ms if stop.value and stop.key is not None else None
    return {"experiment_id": run.experiment_id, "experiment_conflicts": run.conflicts, **columns}


def _registers(
    row: Mapping[str, Any], field_names: Mapping[str, Json], map_names: Iterable[str]
) -> tuple[dict[str, FieldRegister], dict[str, MapRegister]]:
    saved = row["registers"]
    fields = {name: FieldRegister.load(row[name], saved.get(name)) for name in field_names}
    maps = {}
    for name in map_names:
        # Tags are a list in their column, a map of names to true here.
        values = dict.fromkeys(row[name], True) if name == "tags" else row[name]
        maps[name] = MapRegister.load(values, saved.get(name))
    return fields, maps


def _register_columns(fields: Mapping[str, FieldRegister], maps: Mapping[str, MapRegister]) -> dict[str, Any]:
    columns: dict[str, Any] = {name: register.value for name, register in fields.items()}
    columns |= {name: sorted(register.values) if name == "tags" else register.values for name, register in maps.items()}
    columns["registers"] = {name: register.save() for name, register in fields.items()}
    columns["registers"] |= {name: register.save() for name, register in maps.items()}
    return columns
