"""The store: what consumers write to and servers read from, on PostgreSQL or SQLite. All methods block."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import Connection, Engine, select, tuple_

from tracker_server.config import Settings
from tracker_server.errors import ExperimentNotFound, RunNotFound
from tracker_server.model.leases import DEFAULT_LEASE, Lease
from tracker_server.model.ranges import Ranges
from tracker_server.model.records import (
    DashboardStats,
    EndedAttempt,
    ExperimentRecord,
    ExperimentSummary,
    HistoryPage,
    ListedMetric,
    MetricRecord,
    Position,
    RunDetails,
)
from tracker_server.model.typed_json import Json
from tracker_server.model.watching import Cursor, RunPosition, WatchQuery
from tracker_server.model.writes import Write
from tracker_server.partitions import partition_of
from tracker_server.store import experiment_reader, run_list, run_reader, schema
from tracker_server.store.bulk import Bulk
from tracker_server.store.change_reader import Add, Progress, present_revisions, read_changes, read_snapshot
from tracker_server.store.compaction import CROWD, NOTHING_COMPACTED, Compacted, Crowds, compact, runs_with_tails
from tracker_server.store.end_reader import ended_attempts
from tracker_server.store.engine import guard, lock_file, postgres_engine, sqlite_path, sqlite_readers, sqlite_writer
from tracker_server.store.flush import Outcome, flush
from tracker_server.store.history_reader import HistoryQuery, read_history
from tracker_server.store.lease_book import LeaseRules
from tracker_server.store.ledger import NOTHING_LEFT, DeadWrite, Ledger, WriterSets
from tracker_server.store.owed_events import forgive, owe, owed
from tracker_server.store.postgres_bulk import PostgresBulk
from tracker_server.store.purging import Purging
from tracker_server.store.retention import Retention
from tracker_server.store.revision_book import EXPERIMENT_PAGE_RUNS, revise_experiment
from tracker_server.store.run_list import FoundRun, RunPlace, RunQuery
from tracker_server.store.series_book import series_columns
from tracker_server.store.series_cache import RowChanged, SeriesCache
from tracker_server.store.sqlite_bulk import SqliteBulk
from tracker_server.store.tables import experiment_writers, meta, series, suspects, writers
from tracker_server.store.totals_reader import renewed
from tracker_server.store.turns import Turns
from tracker_server.store.visible import explain, purged_runs, visible_runs


class Store:
    """Both sides of the database. Methods raise StoreUnavailable when it is out of reach."""

    def __init__(
        self,
        writer: Engine,
        reader: Engine,
        bulk: Bulk,
        partitions: int,
        restore_ms: int,
        lease: Lease = DEFAULT_LEASE,
        lock: int | None = None,
        turns: AbstractContextManager[None] | None = None,
    ) -> None:
        """restore_ms: how long what was deleted can be restored, in milliseconds; turns: in which one transaction after
        the other writes, where there is one connection for all."""
        self._writer = writer
        self._reader = reader
        self._bulk = bulk
        self.partitions = partitions
        """How many there are."""
        self.restore_ms = restore_ms
        """How long what was deleted can be restored, in milliseconds."""
        self._leases = LeaseRules(partitions, lease)
        self._lock = lock
        self._turns = turns or nullcontext()
        self._series = SeriesCache()
        self.purging = Purging(self._locked, self._snapshot, bulk, partitions)
        self.retention = Retention(self._locked, self._snapshot, self._apply, bulk, partitions)

    # ------------------------------------------------------------ writing, by the consumer

    def flush(self, batch: Sequence[Write]) -> Outcome:
        """Applies a batch of writes in one transaction: all of them, each exactly once, or none.

        Raises StoreUnavailable, after which the same batch may be tried again, or whatever the database says of
        values that it cannot store.
        """
        try:
            return self._flush(batch, self._series)
        except RowChanged:
            # Another consumer has written to these runs since: nothing was committed.
            return self._flush(batch, SeriesCache())

    def mark_dead(self, dead: Sequence[DeadWrite]) -> None:
        """Notes that these writes lie in the dead-letter queue. A later flush of one takes it off again."""
        with self._transaction({write.scope_id for write in dead}) as connection:
            ledger = Ledger(self._bulk)
            ledger.load_dead(connection, dead)
            for write in dead:
                ledger.mark_dead(write)
            ledger.save(connection)

    def note_try(self, mark: str) -> int:
        """Notes that a message is about to be handled alone; returns how often that has begun, this time included."""
        with self._writing() as connection:
            self._bulk.insert_missing(connection, suspects, [{"message_hash": mark, "tries": 0}])
            found = suspects.c.message_hash == mark
            connection.execute(suspects.update().where(found).values(tries=suspects.c.tries + 1))
            return int(connection.execute(select(suspects.c.tries).where(found)).scalar_one())

    def forget_tries(self, mark: str) -> None:
        """Notes that a message was handled and nobody died."""
        with self._writing() as connection:
            connection.execute(suspects.delete().where(suspects.c.message_hash == mark))

    def refresh_totals(self, run_id: str) -> bool:
        """Makes the totals of some stale series of a run anew from their points. Returns whether more are stale.

        Flushes of the run go on meanwhile: they wait only while the new totals are written.
        """
        with self._snapshot() as connection:
            some, more = renewed(connection, run_id)
        if not some:
            return False
        with self._transaction({run_id}) as connection:
            expected = [state.stored_count for state in some]
            columns = series_columns(some)
            if self._bulk.update_columns(connection, series, columns, "chunk_count", expected) < len(some):
                # Points have come to some of them meanwhile: once more, while nothing can. Statements of this
                # transaction see several states: a compaction between them would take chunks away.
                self._bulk.lock_chunks(connection, run_id)
                rest, unfinished = renewed(connection, run_id, [state.name for state in some])
                if rest:
                    self._bulk.update_columns(connection, series, series_columns(rest))
                more = more or unfinished
        self._series.forget(run_id)
        return more

    def stale_runs(self, limit: int) -> list[str]:
        """Runs with series whose totals are stale, so that a consumer that took over can refresh them."""
        with self._snapshot() as connection:
            return list(
                connection.execute(select(series.c.run_id).where(series.c.stale).distinct().limit(limit)).scalars()
            )

    def revise_experiment(
        self, experiment_id: str, after: RunPosition | None = None, limit: int = EXPERIMENT_PAGE_RUNS
    ) -> tuple[Mapping[int, int], RunPosition | None]:
        """Notes that some runs of an experiment read otherwise, since it was deleted or restored; see revision_book.py."""
        with guard(), self._writer.begin() as connection:
            return revise_experiment(connection, self._bulk, self.partitions, experiment_id, after, limit)

    def owe_events(self, lowest: Mapping[str, int]) -> None:
        """Notes that the ends of these runs' attempts, from the given number on, are still to be told of."""
        with self._writing() as connection:
            owe(connection, self._bulk, lowest)

    def owed_events(self, limit: int) -> tuple[list[str], Mapping[str, int]]:
        """Ids of what is owed, and the runs concerned, each with its lowest attempt."""
        with self._snapshot() as connection:
            return owed(connection, limit)

    def forgive_events(self, ids: Collection[str]) -> None:
        """Notes that these have been told of."""
        with self._writing() as connection:
            forgive(connection, ids)

    # ------------------------------------------------------------ compaction

    def runs_with_small_chunks(self, after: str, limit: int) -> list[tuple[str, bool]]:
        """Runs with an id beyond `after` that have chunks in the tail, by id, and whether each has ended."""
        with self._snapshot() as connection:
            return runs_with_tails(connection, after, limit)

    def compact(self, run_id: str, *, finish: bool, many: int = CROWD, pending: Crowds = ()) -> Compacted:
        """Merges some of a run's small chunks, in one short transaction; nothing that is read changes by it.

        Without `finish` only where a series has so `many` of them, and what does not fill a chunk stays small, to be
        merged with what comes later. `finish`: nothing more is expected, so all of it goes among the large ones.
        Call it until no part was taken, each time with what is `pending` of the last one.
        """
        with self._writing() as connection:
            if not self._bulk.begin_compaction(connection, run_id):
                return NOTHING_COMPACTED
            return compact(connection, self._bulk, run_id, pending, finish=finish, many=many)

    # ------------------------------------------------------------ reading, by the server

    def applied(self, keys: Collection[tuple[str, str]], *, experiments: bool) -> Mapping[tuple[str, str], WriterSets]:
        """What has been applied of these (run or experiment, writer) pairs. Unknown pairs are left out, but for those of
        purged runs."""
        table = experiment_writers if experiments else writers
        scope = table.c.experiment_id if experiments else table.c.run_id
        query = select(scope, table).where(tuple_(scope, table.c.writer_id).in_(sorted(keys)))
        with self._snapshot() as connection:
            found = {
                (row[0], row.writer_id): WriterSets(
                    Ranges.parse(row.applied), Ranges.parse(row.dead), None if experiments else row.final_sequence
                )
                for row in connection.execute(query)
            }
            if not experiments and (unknown := set(keys) - found.keys()):
                purged = purged_runs(connection, {run_id for run_id, _ in unknown})
                found |= {key: NOTHING_LEFT for key in unknown if key[0] in purged}
            return found

    def read_run(self, run_id: str, after: str, size: int, *, show_deleted: bool = False) -> RunDetails:
        """A run with a page of its metrics. Raises RunNotFound."""
        with self._snapshot() as connection:
            visible = visible_runs(show_deleted=show_deleted)
            return run_reader.read_run(connection, run_id, after, size, now_ms(), visible)

    def find_runs(
        self, query: RunQuery, after: RunPlace | None, size: int, metrics: Sequence[str] = ()
    ) -> tuple[list[FoundRun], Mapping[str, list[MetricRecord]]]:
        """Runs that meet a condition, in the order asked for, and what each has of these metrics."""
        with self._snapshot() as connection:
            found = run_list.find_runs(connection, query, after, size)
            run_ids = [one.record.run_id for one in found]
            return found, run_list.metrics_of_runs(connection, run_ids, metrics) if metrics else {}

    def list_metrics(
        self, experiment_id: str, prefix: str, after: str, size: int
    ) -> tuple[list[ListedMetric], Mapping[str, Json]]:
        """Metrics by name, and the experiment's definitions."""
        with self._snapshot() as connection:
            return experiment_reader.list_metrics(connection, experiment_id, prefix, after, size)

    def list_experiments(
        self, after: tuple[int, str] | None, size: int, *, show_deleted: bool = False
    ) -> list[ExperimentRecord]:
        """Experiments, newest first."""
        with self._snapshot() as connection:
            return experiment_reader.list_experiments(connection, after, size, show_deleted=show_deleted)

    def summarize(self, experiment_id: str, after: str, size: int) -> ExperimentSummary:
        """An experiment with a page of its metrics. Raises ExperimentNotFound."""
        with self._snapshot() as connection:
            return experiment_reader.summarize(connection, experiment_id, after, size, now_ms())

    def dashboard_stats(self) -> DashboardStats:
        """A few numbers over everything."""
        with self._snapshot() as connection:
            return experiment_reader.dashboard_stats(connection, now_ms())

    def read_history(self, query: HistoryQuery, begin: Position) -> HistoryPage:
        """A page of points. Raises RunNotFound."""
        with self._snapshot() as connection:
            return read_history(connection, query, begin)

    def runs_to_stop(self) -> Mapping[str, int]:
        """Runs that somebody asked to stop, each with its newest attempt."""
        with self._snapshot() as connection:
            return run_reader.runs_to_stop(connection)

    def revisions(self) -> tuple[int, ...]:
        """How far each partition has come; see revision_book.py."""
        with self._snapshot() as connection:
            return present_revisions(connection, self.partitions)

    def read_watched(self, query: WatchQuery, cursor: Cursor, add: Add) -> Progress:
        """Gives `add` a page of the runs that changed after the cursor, or of its snapshot. Raises InvalidRequest."""
        with self._snapshot() as connection:
            read = read_changes if cursor.snapshot is None else read_snapshot
            return read(connection, query, cursor, add)

    def ended_attempts(self, lowest: Mapping[str, int]) -> list[EndedAttempt]:
        """The attempts of these runs that have ended, from the given number on."""
        with self._snapshot() as connection:
            return ended_attempts(connection, lowest)

    def database_id(self) -> str:
        """Tells this database from others. Never changes."""
        with self._snapshot() as connection:
            return str(connection.execute(select(meta.c.value).where(meta.c.key == "database_id")).scalar_one())

    # ------------------------------------------------------------ life

    def migrate(self) -> str:
        """Brings the schema up to date and returns its revision."""
        return schema.migrate(self._writer, self.partitions)

    def check(self) -> None:
        """Raises BadMigration, BadSetting or StoreUnavailable unless the database is fit for this program."""
        schema.check(self._reader, self.partitions)

    def close(self) -> None:
        """Closes every connection. Idempotent."""
        self._reader.dispose()
        self._writer.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _flush(self, batch: Sequence[Write], known: SeriesCache) -> Outcome:
        with known.used() as cache, self._transaction({write.scope_id for write in batch}) as connection:
            return flush(connection, self._bulk, cache, batch, self._leases, self.partitions)

    def _apply(self, connection: Connection, batch: Sequence[Write]) -> Outcome:
        return flush(connection, self._bulk, SeriesCache(), batch, self._leases, self.partitions)

    def _transaction(self, scope_ids: Collection[str]) -> AbstractContextManager[Connection]:
        return self._locked({partition_of(scope_id, self.partitions) for scope_id in scope_ids})

    @contextmanager
    def _locked(self, partitions: Collection[int]) -> Iterator[Connection]:
        with self._writing() as connection:
            self._bulk.lock_partitions(connection, sorted(partitions))
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with guard(), self._turns, self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        with guard(), self._reader.begin() as connection:
            try:
                yield connection
            except (RunNotFound, ExperimentNotFound) as error:
                raise explain(connection, error, self.restore_ms) from None


def open_store(settings: Settings, process_name: str) -> Store:
    """The store that the settings name; `process_name` is seen at the database. SQLite: locks the file for this process and migrates it.

    Raises BadSetting when the file is in use. Connects to PostgreSQL only when used.
    """
    if settings.database_is_sqlite:
        return _open_sqlite(sqlite_path(settings.database_url), settings)
    timeout = settings.transaction_timeout_seconds
    # A consumer flushes, refreshes, compacts and purges from one thread each; everybody else only reads.
    writer = postgres_engine(settings.database_url, name=process_name, connections=4, timeout_seconds=timeout)
    reader = postgres_engine(
        settings.database_url,
        name=process_name,
        connections=settings.database_connections,
        timeout_seconds=timeout,
        isolation="REPEATABLE READ",
    )
    lease = Lease(settings.lease_seconds)
    return Store(writer, reader, PostgresBulk(), settings.partitions, settings.restore_ms, lease)


def now_ms() -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def _open_sqlite(path: Path, settings: Settings) -> Store:
    lock = lock_file(path)
    readers = sqlite_readers(path, connections=settings.database_connections)
    lease = Lease(settings.lease_seconds)
    writer = sqlite_writer(path)
    store = Store(
        writer, readers, SqliteBulk(), settings.partitions, settings.restore_ms, lease, lock=lock, turns=Turns()
    )
    try:
        store.migrate()
    except BaseException:
        store.close()
        raise
    return store
