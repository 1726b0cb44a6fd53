"""The life of a run: reasons, leases, stops, deletions, groups, definitions of metrics, and revisions for watchers.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_id = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


_NARROW = {"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0}


def upgrade() -> None:
    """Adds columns and tables."""
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    op.create_table(
        "lease_markers",
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("server_id", sa.Text, primary_key=True),
        sa.Column("since_ms", sa.BigInteger, nullable=False, comment="From when on its markers came without a gap."),
        sa.Column("last_ms", sa.BigInteger, nullable=False, comment="The latest."),
        comment="Since when which server has been taking writes; see model/leases.py.",
    )
    op.create_table(
        "partition_revisions",
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False, comment="Of the last flush that changed a run."),
    )
    op.create_table(
        "run_revisions",
        sa.Column("run_id", _id, primary_key=True),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False, comment="Of the last flush that changed the run."),
        sa.Column("left_experiments", _json, comment="Experiments that it was in, and at which revision it left each."),
        comment="Apart from runs, so that each change costs a narrow row only.",
        postgresql_with=_NARROW,
    )
    op.create_index("series_by_name", "series", ["name", "run_id"])
    op.create_index("run_revisions_by_revision", "run_revisions", ["partition", "revision"])
    for name, (table, names, where) in _DELETED.items():
        op.create_index(name, table, names, postgresql_where=sa.text(where), sqlite_where=sa.text(where))
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"CREATE OR REPLACE VIEW metric_points AS {_LIVE_POINTS} AND {_VISIBLE}")
    op.create_table(
        "owed_events",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("run_id", _id, nullable=False),
        sa.Column("attempt", sa.BigInteger, nullable=False, comment="The lowest whose end may not have been told of."),
        comment="Events that the broker did not take when they were due.",
    )
    running = sa.text("status = 1 AND lost_ms IS NULL AND NOT implied")
    op.create_index(
        "attempts_running", "attempts", ["run_id", "attempt"], postgresql_where=running, sqlite_where=running
    )


def downgrade() -> None:
    """Takes them away."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"CREATE OR REPLACE VIEW metric_points AS {_LIVE_POINTS}")
    for name, (table, _, _) in _DELETED.items():
        op.drop_index(name, table)
    op.drop_index("series_by_name", "series")
    op.drop_index("attempts_running", "attempts")
    for table in ("owed_events", "run_revisions", "partition_revisions", "lease_markers"):
        op.drop_table(table)
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, column.name)


def _columns() -> dict[str, list[sa.Column[object]]]:
    deleted = "When it was deleted; NULL: it was not, or was restored."
    return {
        "experiments": [
            sa.Column(
                "metric_definitions",
                _json,
                nullable=False,
                server_default="{}",
                comment="By name, or beginning and *.",
            ),
            sa.Column(
                "retention", _json, comment="Days: {delete_runs_after_days, drop_points_after_days}; NULL: for ever."
            ),
            sa.Column("deleted_ms", sa.BigInteger, comment=deleted),
        ],
        "runs": [
            sa.Column("stop_reason", sa.Text, nullable=False, server_default=""),
            sa.Column(
                "stop_ms",
                sa.BigInteger,
                comment="When the stop was asked for: attempts heard of later are not stopped.",
            ),
            sa.Column("heard_ms", sa.BigInteger, comment="When the newest attempt was first heard of."),
            sa.Column("parent_run_id", _id, nullable=False, server_default=""),
            sa.Column("run_group", sa.Text, nullable=False, server_default=""),
            sa.Column("reason", sa.Text, nullable=False, server_default="", comment="Why the newest attempt ended."),
            sa.Column("lost_ms", sa.BigInteger, comment="Since when the newest attempt is lost; NULL: it is not."),
            sa.Column("deleted_ms", sa.BigInteger, comment=deleted),
            sa.Column("points_dropped_ms", sa.BigInteger, comment="When its points were dropped; NULL: they were not."),
            sa.Column(
                "purged",
                sa.Boolean,
                nullable=False,
                server_default=sa.false(),
                comment="Only its name is left, or will be.",
            ),
        ],
        "attempts": [
            sa.Column(
                "reason",
                sa.Text,
                nullable=False,
                server_default="",
                comment="Why it ended, as RunCompleted said.",
            ),
            sa.Column("lost_ms", sa.BigInteger, comment="Since when it is lost; NULL: it is not, or ended."),
            sa.Column(
                "implied",
                sa.Boolean,
                nullable=False,
                server_default=sa.false(),
                comment="Nothing of it was ever heard of.",
            ),
        ],
    }


_DELETED = {
    "experiments_deleted": ("experiments", ["experiment_id"], "deleted_ms IS NOT NULL"),
    "runs_deleted": (
        "runs",
        ["experiment_id", "deleted_ms", "run_id"],
        "deleted_ms IS NOT NULL AND experiment_id <> ''",
    ),
}
"""Indexes of what is deleted: name, table, columns, condition."""
_LIVE_POINTS = """
SELECT c.run_id, s.name, c.attempt, p.step, p.time_unix_ms,
       -- Times are held to years 1 to 9999 on the way in; the guard is for rows that came otherwise.
       CASE WHEN p.time_unix_ms BETWEEN -62135596800000 AND 253402300799999
            THEN to_timestamp(p.time_unix_ms / 1000.0) END AS time,
       p.value
FROM series s
JOIN runs r ON r.run_id = s.run_id
JOIN (SELECT run_id, series_no, attempt, first_step, first_ms,
             step_offsets, time_offsets, wide_steps, wide_times, point_values FROM chunks
      UNION ALL
      SELECT run_id, series_no, attempt, first_step, first_ms,
             step_offsets, time_offsets, wide_steps, wide_times, point_values FROM chunk_tail) c
  ON c.run_id = s.run_id AND c.series_no = s.series_no
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
WHERE (live.until IS NULL OR p.step < live.until)
"""
"""The view as the first revision made it."""
_VISIBLE = """r.deleted_ms IS NULL AND NOT EXISTS (
    SELECT FROM experiments e WHERE e.experiment_id = r.experiment_id AND e.deleted_ms IS NOT NULL
)"""
"""What is deleted is not in it."""
