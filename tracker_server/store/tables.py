"""The tables, once for both databases. tracker_server/migrations makes them; a test holds the two together.

Primary keys begin with `run_id`, and numbers inside a run come from counters of the run and of the series, so that
hash partitions by run are a change of DDL only. Times are milliseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine

metadata = MetaData()

RUNNING = text("status = 1 AND lost_ms IS NULL AND NOT implied")
"""Of attempts: neither ended nor lost. A query that says just this finds the index."""

_json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# Sorted by code point in both databases, whatever the locale.
_id = Text().with_variant(Text(collation="C"), "postgresql")


def _array(item: TypeEngine[Any]) -> TypeEngine[Any]:
    """An array in PostgreSQL; little-endian bytes in SQLite, which has none."""
    return LargeBinary().with_variant(ARRAY(item), "postgresql")


meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    comment="Settings that must not change once there is data: partitions.",
)

experiments = Table(
    "experiments",
    metadata,
    Column("experiment_id", _id, primary_key=True),
    Column("name", Text, nullable=False, server_default=""),
    Column("notes", Text, nullable=False, server_default=""),
    Column("tags", _json, nullable=False),
    Column("metadata", _json, nullable=False),
    Column("registers", _json, nullable=False, comment="Which write set what; see model/registers.py."),
    Column("created_ms", BigInteger, nullable=False),
    Column("metric_definitions", _json, nullable=False, server_default="{}", comment="By name, or beginning and *."),
    Column("retention", _json, comment="Days: {delete_runs_after_days, drop_points_after_days}; NULL: for ever."),
    Column("deleted_ms", BigInteger, comment="When it was deleted; NULL: it was not, or was restored."),
    Index("experiments_by_age", "created_ms", "experiment_id"),
    Index(
        "experiments_deleted",
        "experiment_id",
        postgresql_where=text("deleted_ms IS NOT NULL"),
        sqlite_where=text("deleted_ms IS NOT NULL"),
    ),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", _id, primary_key=True),
    Column("experiment_id", _id, nullable=False),
    Column("experiment_conflicts", _json, nullable=False),
    Column("name", Text, nullable=False, server_default=""),
    Column("notes", Text, nullable=False, server_default=""),
    Column("config", _json, nullable=False, comment="Typed; see model/typed_json.py."),
    Column("tags", _json, nullable=False),
    Column("metadata", _json, nullable=False),
    Column("artifacts", _json, nullable=False),
    Column("stop_requested", Boolean, nullable=False, server_default="0"),
    Column("registers", _json, nullable=False, comment="Which write set what; see model/registers.py."),
    Column("status", SmallInteger, nullable=False, comment="Of the newest attempt."),
    Column("attempt", BigInteger, nullable=False, comment="The newest."),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("final_metrics", _json, nullable=False, comment="Of the newest attempt."),
    Column("created_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False, comment="Rounded down to ten seconds."),
    Column("cuts", _json, comment="Explicit cuts, for all series: [[attempt, from_step], ...]; see model/cuts.py."),
    Column("series_count", Integer, nullable=False, server_default="0", comment="Numbers given to series so far."),
    Column("writer_count", Integer, nullable=False, server_default="0", comment="Numbers given to writers so far."),
    Column("stop_reason", Text, nullable=False, server_default=""),
    Column("stop_ms", BigInteger, comment="When the stop was asked for: attempts heard of later are not stopped."),
    Column("heard_ms", BigInteger, comment="When the newest attempt was first heard of."),
    Column("parent_run_id", _id, nullable=False, server_default=""),
    Column("run_group", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default="", comment="Why the newest attempt ended."),
    Column("lost_ms", BigInteger, comment="Since when the newest attempt is lost; NULL: it is not."),
    Column("deleted_ms", BigInteger, comment="When it was deleted; NULL: it was not, or was restored."),
    Column("points_dropped_ms", BigInteger, comment="When its points were dropped; NULL: they were not."),
    Column("purged", Boolean, nullable=False, server_default="0", comment="Only its name is left, or will be."),
    Index("runs_by_experiment", "experiment_id", "created_ms", "run_id"),
    Index("runs_by_age", "created_ms", "run_id"),
    # Without those that were purged whole: they have no experiment.
    Index(
        "runs_deleted",
        "experiment_id",
        "deleted_ms",
        "run_id",
        postgresql_where=text("deleted_ms IS NOT NULL AND experiment_id <> ''"),
        sqlite_where=text("deleted_ms IS NOT NULL AND experiment_id <> ''"),
    ),
    Index("runs_to_stop", "run_id", postgresql_where=Column("stop_requested"), sqlite_where=Column("stop_requested")),
    postgresql_with={"fillfactor": 70},
)

attempts = Table(
    "attempts",
    metadata,
    Column("run_id", _id, primary_key=True),
    Column("attempt", BigInteger, primary_key=True),
    Column("status", SmallInteger, nullable=False),
    Column("started_ms", BigInteger, comment="As stated by StartRun."),
    Column("first_accepted_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("last_seen_ms", BigInteger, nullable=False, comment="Rounded down to ten seconds; the lease runs from it."),
    Column("final_metrics", _json, nullable=False),
    Column("registers", _json, nullable=False),
    Column("reason", Text, nullable=False, server_default="", comment="Why it ended, as RunCompleted said."),
    Column("lost_ms", BigInteger, comment="Since when it is lost; NULL: it is not, or ended."),
    Column("implied", Boolean, nullable=False, server_default="0", comment="Nothing of it was ever heard of."),
    # Whose leases are to be judged. Of columns that change at the beginning and the end only.
    Index("attempts_running", "run_id", "attempt", postgresql_where=RUNNING, sqlite_where=RUNNING),
    postgresql_with={"fillfactor": 70},
)

series = Table(
    "series",
    metadata,
    Column("run_id", _id, primary_key=True),
    Column("name", _id, primary_key=True),
    Column("series_no", Integer, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("finite_count", BigInteger, nullable=False),
    Column("last_step", BigInteger),
    Column("last_ms", BigInteger),
    Column("last_writer", _id),
    Column("last_sequence", BigInteger),
    Column("last_value", Double, comment="NULL unless last_kind is 0."),
    Column("last_kind", SmallInteger, comment="0 finite, 1 nan, 2 +inf, 3 -inf, 4 -0.0; NULL: no points."),
    Column("min_value", Double),
    Column("min_step", BigInteger),
    Column("max_value", Double),
    Column("max_step", BigInteger),
    Column("sum", Double, nullable=False, comment="Of the finite values up to 1e290."),
    Column("huge_sum", Double, nullable=False, comment="Of the finite values beyond, each times 2^-128."),
    Column(
        "final_value", Double, comment="The newest attempt's final metric of this name; NULL unless final_kind is 0."
    ),
    Column("final_kind", SmallInteger, comment="As last_kind; NULL: none was given."),
    Column("zero_signs", SmallInteger, nullable=False, server_default="0", comment="Bit 0: min is -0.0; bit 1: max."),
    Column("cuts", _json, comment="Implicit cuts: [[attempt, from_step], ...]; see model/cuts.py."),
    Column("stale", Boolean, nullable=False, server_default="0", comment="A cut moved: totals must be made anew."),
    Column("chunk_count", Integer, nullable=False, server_default="0", comment="Numbers given to chunks so far."),
    # No flush updates either column: it costs an insert a series, and updates stay on their page.
    Index("series_by_name", "name", "run_id"),
    Index("series_stale", "run_id", postgresql_where=Column("stale"), sqlite_where=Column("stale")),
    # Every flush updates every series it touches: half-empty pages keep those updates on the page and off the index.
    postgresql_with={
        "fillfactor": 50,
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_vacuum_cost_delay": 0,
    },
)


def _chunk_table(name: str, comment: str, *more: Column[Any], options: dict[str, Any] | None = None) -> Table:
    return Table(
        name,
        metadata,
        Column("run_id", _id, primary_key=True),
        Column("series_no", Integer, primary_key=True),
        Column("chunk_no", Integer, primary_key=True),
        Column("attempt", BigInteger, nullable=False),
        Column("count", Integer, nullable=False),
        Column("first_step", BigInteger, nullable=False),
        Column("last_step", BigInteger, nullable=False),
        Column("first_ms", BigInteger, nullable=False),
        Column("min_value", Double, comment="Smallest finite value; NULL when there is none."),
        Column("max_value", Double, comment="Largest finite value; NULL when there is none."),
        Column("step_offsets", _array(Integer()), comment="From first_step; NULL: see wide_steps."),
        Column("time_offsets", _array(Integer()), comment="From first_ms; NULL: see wide_times."),
        Column("wide_steps", _array(BigInteger()), comment="Whole steps, where offsets need more than 32 bits."),
        Column("wide_times", _array(BigInteger()), comment="Whole times, where offsets need more than 32 bits."),
        Column("point_values", _array(Double()), nullable=False),
        Column("origins", LargeBinary, nullable=False, comment="Writer and sequence of each; see model/origins.py."),
        *more,
        comment=comment,
        postgresql_with=options,
    )


chunks = _chunk_table(
    "chunks",
    "Points as arrays, large chunks: ordered by step, time, writer, sequence within each.",
    # See model/digests.py. At the end, where the migration that brought them put them.
    Column(
        "finite_count",
        Integer,
        comment="Values that are finite. NULL: stored before there were digests; so the next four.",
    ),
    Column("min_index", Integer, comment="The first smallest finite value, counted from 0; NULL when there is none."),
    Column("max_index", Integer, comment="The first largest finite value, counted from 0; NULL when there is none."),
    Column(
        "non_finite_index", Integer, comment="The first value that is not finite, counted from 0; NULL when all are."
    ),
    Column("last_ms", BigInteger, comment="Time of the last point."),
)
chunk_tail = _chunk_table(
    "chunk_tail",
    "The same, small chunks, until they are merged into large ones.",
    # Rows live for a minute or so: their room must be free again before the next ones come.
    options={
        "autovacuum_vacuum_scale_factor": 0.05,
        "autovacuum_vacuum_cost_delay": 0,
        "toast.autovacuum_vacuum_scale_factor": 0.05,
        "toast.autovacuum_vacuum_cost_delay": 0,
    },
)

writers = Table(
    "writers",
    metadata,
    Column("run_id", _id, primary_key=True),
    Column("writer_id", _id, primary_key=True),
    Column("writer_no", Integer, nullable=False),
    Column("applied", Text, nullable=False, comment="Sequences applied, as ranges: 1-40,42."),
    Column("dead", Text, nullable=False, comment="Sequences that lie in the dead-letter queue, as ranges."),
    Column("final_sequence", BigInteger, comment="As CloseWriter said; NULL: not closed."),
    Column("dropped_points", BigInteger, nullable=False, server_default="0"),
    # Also of a writer of changes from outside alone: Write.open_ended of all its writes.
    Column("server_assigned", Boolean, nullable=False),
    postgresql_with={"fillfactor": 50},
)

experiment_writers = Table(
    "experiment_writers",
    metadata,
    Column("experiment_id", _id, primary_key=True),
    Column("writer_id", _id, primary_key=True),
    Column("applied", Text, nullable=False),
    Column("dead", Text, nullable=False),
)

lease_markers = Table(
    "lease_markers",
    metadata,
    Column("partition", Integer, primary_key=True),
    Column("server_id", Text, primary_key=True),
    Column("since_ms", BigInteger, nullable=False, comment="From when on its markers came without a gap."),
    Column("last_ms", BigInteger, nullable=False, comment="The latest."),
    comment="Since when which server has been taking writes; see model/leases.py.",
)

partition_revisions = Table(
    "partition_revisions",
    metadata,
    Column("partition", Integer, primary_key=True),
    Column("revision", BigInteger, nullable=False, comment="Of the last flush that changed a run."),
)

run_revisions = Table(
    "run_revisions",
    metadata,
    Column("run_id", _id, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False, comment="Of the last flush that changed the run."),
    Column("left_experiments", _json, comment="Experiments that it was in, and at which revision it left each."),
    Index("run_revisions_by_revision", "partition", "revision"),
    comment="Apart from runs, so that each change costs a narrow row only.",
    postgresql_with={
        "fillfactor": 70,
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_vacuum_cost_delay": 0,
    },
)

owed_events = Table(
    "owed_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", _id, nullable=False),
    Column("attempt", BigInteger, nullable=False, comment="The lowest whose end may not have been told of."),
    comment="Events that the broker did not take when they were due.",
)

suspects = Table(
    "suspects",
    metadata,
    Column("message_hash", Text, primary_key=True, comment="SHA-256 of the message, in hex."),
    Column("tries", Integer, nullable=False, comment="Consumers that began to handle it alone."),
    comment="Messages that may be what kills consumers: a row stays where a consumer died on one.",
)

consumers = Table(
    "consumers",
    metadata,
    Column("consumer_id", Text, primary_key=True, comment="Also its sessions' application_name."),
    Column("seen_ms", BigInteger, nullable=False, comment="By the database's clock."),
    comment="Living consumers, PostgreSQL only: who shares the partitions.",
)
