"""The pipeline: experiments, runs, attempts, series, chunks, writers.

Revision ID: 0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_id = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _array(item: TypeEngine[Any]) -> TypeEngine[Any]:
    return sa.LargeBinary().with_variant(postgresql.ARRAY(item), "postgresql")


def upgrade() -> None:
    """Makes every table, the view of points, and the default experiment."""
    op.create_table(
        "meta",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        comment="Settings that must not change once there is data: partitions.",
    )
    op.create_table(
        "experiments",
        sa.Column("experiment_id", _id, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, server_default=""),
        sa.Column("notes", sa.Text, nullable=False, server_default=""),
        sa.Column("tags", _json, nullable=False),
        sa.Column("metadata", _json, nullable=False),
        sa.Column("registers", _json, nullable=False, comment="Which write set what; see model/registers.py."),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("experiments_by_age", "experiments", ["created_ms", "experiment_id"])
    _create_runs()
    _create_series()
    _create_chunks("chunks", "Points as arrays, large chunks: ordered by step, time, writer, sequence within each.")
    _create_chunks("chunk_tail", "The same, small chunks, until they are merged into large ones.")
    _create_writers()
    op.execute(
        "INSERT INTO experiments (experiment_id, tags, metadata, registers, created_ms) "
        "VALUES ('default', '[]', '{}', '{}', 0)"
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_METRIC_POINTS)


def downgrade() -> None:
    """Removes everything."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP VIEW metric_points")
    for table in (
        "consumers", "suspects", "experiment_writers", "writers", "chunk_tail", "chunks", "series", "attempts", "runs",
        "experiments", "meta",
    ):  # fmt: skip
        op.drop_table(table)


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", _id, primary_key=True),
        sa.Column("experiment_id", _id, nullable=False),
        sa.Column("experiment_conflicts", _json, nullable=False),
        sa.Column("name", sa.Text, nullable=False, server_default=""),
        sa.Column("notes", sa.Text, nullable=False, server_default=""),
        sa.Column("config", _json, nullable=False, comment="Typed; see model/typed_json.py."),
        sa.Column("tags", _json, nullable=False),
        sa.Column("metadata", _json, nullable=False),
        sa.Column("artifacts", _json, nullable=False),
        sa.Column("stop_requested", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("registers", _json, nullable=False, comment="Which write set what; see model/registers.py."),
        sa.Column("status", sa.SmallInteger, nullable=False, comment="Of the newest attempt."),
        sa.Column("attempt", sa.BigInteger, nullable=False, comment="The newest."),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("final_metrics", _json, nullable=False, comment="Of the newest attempt."),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger, nullable=False, comment="Rounded down to ten seconds."),
        sa.Column(
            "cuts", _json, comment="Explicit cuts, for all series: [[attempt, from_step], ...]; see model/cuts.py."
        ),
        sa.Column(
            "series_count", sa.Integer, nullable=False, server_default="0", comment="Numbers given to series so far."
        ),
        sa.Column(
            "writer_count", sa.Integer, nullable=False, server_default="0", comment="Numbers given to writers so far."
        ),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index("runs_by_experiment", "runs", ["experiment_id", "created_ms", "run_id"])
    op.create_index("runs_by_age", "runs", ["created_ms", "run_id"])
    to_stop = sa.text("stop_requested")
    op.create_index("runs_to_stop", "runs", ["run_id"], postgresql_where=to_stop, sqlite_where=to_stop)
    op.create_table(
        "attempts",
        sa.Column("run_id", _id, primary_key=True),
        sa.Column("attempt", sa.BigInteger, primary_key=True),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("started_ms", sa.BigInteger, comment="As stated by StartRun."),
        sa.Column("first_accepted_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column(
            "last_seen_ms",
            sa.BigInteger,
            nullable=False,
            comment="Rounded down to ten seconds; the lease runs from it.",
        ),
        sa.Column("final_metrics", _json, nullable=False),
        sa.Column("registers", _json, nullable=False),
        postgresql_with={"fillfactor": 70},
    )


def _create_series() -> None:
    op.create_table(
        "series",
        sa.Column("run_id", _id, primary_key=True),
        sa.Column("name", _id, primary_key=True),
        sa.Column("series_no", sa.Integer, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("finite_count", sa.BigInteger, nullable=False),
        sa.Column("last_step", sa.BigInteger),
        sa.Column("last_ms", sa.BigInteger),
        sa.Column("last_writer", _id),
        sa.Column("last_sequence", sa.BigInteger),
        sa.Column("last_value", sa.Double, comment="NULL unless last_kind is 0."),
        sa.Column("last_kind", sa.SmallInteger, comment="0 finite, 1 nan, 2 +inf, 3 -inf, 4 -0.0; NULL: no points."),
        sa.Column("min_value", sa.Double),
        sa.Column("min_step", sa.BigInteger),
        sa.Column("max_value", sa.Double),
        sa.Column("max_step", sa.BigInteger),
        sa.Column("sum", sa.Double, nullable=False, comment="Of the finite values up to 1e290."),
        sa.Column("huge_sum", sa.Double, nullable=False, comment="Of the finite values beyond, each times 2^-128."),
        sa.Column(
            "final_value",
            sa.Double,
            comment="The newest attempt's final metric of this name; NULL unless final_kind is 0.",
        ),
        sa.Column("final_kind", sa.SmallInteger, comment="As last_kind; NULL: none was given."),
        sa.Column(
            "zero_signs",
            sa.SmallInteger,
            nullable=False,
            server_default="0",
            comment="Bit 0: min is -0.0; bit 1: max.",
        ),
        sa.Column("cuts", _json, comment="Implicit cuts: [[attempt, from_step], ...]; see model/cuts.py."),
        sa.Column(
            "stale",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="A cut moved: totals must be made anew.",
        ),
        sa.Column(
            "chunk_count", sa.Integer, nullable=False, server_default="0", comment="Numbers given to chunks so far."
        ),
        postgresql_with={
            "fillfactor": 50,
            "autovacuum_vacuum_scale_factor": 0.02,
            "autovacuum_vacuum_cost_delay": 0,
        },
    )
    stale = sa.text("stale")
    op.create_index("series_stale", "series", ["run_id"], postgresql_where=stale, sqlite_where=stale)


def _create_chunks(name: str, comment: str) -> None:
    op.create_table(
        name,
        sa.Column("run_id", _id, primary_key=True),
        sa.Column("series_no", sa.Integer, primary_key=True),
        sa.Column("chunk_no", sa.Integer, primary_key=True),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("first_step", sa.BigInteger, nullable=False),
        sa.Column("last_step", sa.BigInteger, nullable=False),
        sa.Column("first_ms", sa.BigInteger, nullable=False),
        sa.Column("min_value", sa.Double, comment="Smallest finite value; NULL when there is none."),
        sa.Column("max_value", sa.Double, comment="Largest finite value; NULL when there is none."),
        sa.Column("step_offsets", _array(sa.Integer()), comment="From first_step; NULL: see wide_steps."),
        sa.Column("time_offsets", _array(sa.Integer()), comment="From first_ms; NULL: see wide_times."),
        sa.Column("wide_steps", _array(sa.BigInteger()), comment="Whole steps, where offsets need more than 32 bits."),
        sa.Column("wide_times", _array(sa.BigInteger()), comment="Whole times, where offsets need more than 32 bits."),
        sa.Column("point_values", _array(sa.Double()), nullable=False),
        sa.Column(
            "origins",
            sa.LargeBinary,
            nullable=False,
            comment="Writer and sequence of each; see model/origins.py.",
        ),
        comment=comment,
    )
    if op.get_bind().dialect.name == "postgresql":
        for column in ("step_offsets", "time_offsets", "wide_steps", "wide_times", "point_values"):
            op.execute(f"ALTER TABLE {name} ALTER COLUMN {column} SET COMPRESSION lz4")


def _create_writers() -> None:
    op.create_table(
        "writers",
        sa.Column("run_id", _id, primary_key=True),
        sa.Column("writer_id", _id, primary_key=True),
        sa.Column("writer_no", sa.Integer, nullable=False),
        sa.Column("applied", sa.Text, nullable=False, comment="Sequences applied, as ranges: 1-40,42."),
        sa.Column("dead", sa.Text, nullable=False, comment="Sequences that lie in the dead-letter queue, as ranges."),
        sa.Column("final_sequence", sa.BigInteger, comment="As CloseWriter said; NULL: not closed."),
        sa.Column("dropped_points", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("server_assigned", sa.Boolean, nullable=False),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "experiment_writers",
        sa.Column("experiment_id", _id, primary_key=True),
        sa.Column("writer_id", _id, primary_key=True),
        sa.Column("applied", sa.Text, nullable=False),
        sa.Column("dead", sa.Text, nullable=False),
    )
    op.create_table(
        "suspects",
        sa.Column("message_hash", sa.Text, primary_key=True, comment="SHA-256 of the message, in hex."),
        sa.Column("tries", sa.Integer, nullable=False, comment="Consumers that began to handle it alone."),
        comment="Messages that may be what kills consumers: a row stays where a consumer died on one.",
    )
    op.create_table(
        "consumers",
        sa.Column("consumer_id", sa.Text, primary_key=True, comment="Also its sessions' application_name."),
        sa.Column("seen_ms", sa.BigInteger, nullable=False, comment="By the database's clock."),
        comment="Living consumers, PostgreSQL only: who shares the partitions.",
    )


_METRIC_POINTS = """
CREATE VIEW metric_points AS
SELECT c.run_id, s.name, c.attempt, p.step, p.time_unix_ms,
       -- Times are held to years 1 to 9999 on the way in; the guard is for rows that came otherwise.
       CASE WHEN p.time_unix_ms BETWEEN -62135596800000 AND 253402300799999
            THEN to_timestamp(p.time_unix_ms / 1000.0) END AS time,
       p.value
FROM series s
JOIN runs r ON r.run_id = s.run_id
JOIN (SELECT * FROM chunks UNION ALL SELECT * FROM chunk_tail) c ON c.run_id = s.run_id AND c.series_no = s.series_no
CROSS JOIN LATERAL (
    SELECT min(cut.from_step) AS until
    FROM (SELECT (k->>0)::bigint AS attempt, (k->>1)::bigint AS from_step
          FROM jsonb_array_elements(CASE WHEN c.attempt > 0 AND jsonb_typeof(s.cuts) = 'array' THEN s.cuts ELSE '[]' END) k
          UNION ALL
          SELECT (k->>0)::bigint, (k->>1)::bigint
          FROM jsonb_array_elements(CASE WHEN jsonb_typeof(r.cuts) = 'array' THEN r.cuts ELSE '[]' END) k) cut
    WHERE cut.attempt > c.attempt
) live
CROSS JOIN LATERAL (
    SELECT coalesce(u.whole_step, c.first_step + u.step_offset) AS step,
           coalesce(u.whole_time, c.first_ms + u.time_offset) AS time_unix_ms,
           u.value
    FROM unnest(c.step_offsets, c.time_offsets, c.wide_steps, c.wide_times, c.point_values)
         AS u (step_offset, time_offset, whole_step, whole_time, value)
) p
WHERE live.until IS NULL OR p.step < live.until
"""
