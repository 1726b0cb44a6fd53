"""Compaction: what is known of a large chunk without its points, and a tail that is emptied as fast as it fills.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COLUMNS = ("finite_count", "min_index", "max_index", "non_finite_index", "last_ms")


def upgrade() -> None:
    """Adds the digest's columns to `chunks`. Chunks that are there already have none, and are read whole."""
    for name, kind, comment in (
        (
            "finite_count",
            sa.Integer,
            "Values that are finite. NULL: stored before there were digests; so the next four.",
        ),
        ("min_index", sa.Integer, "The first smallest finite value, counted from 0; NULL when there is none."),
        ("max_index", sa.Integer, "The first largest finite value, counted from 0; NULL when there is none."),
        ("non_finite_index", sa.Integer, "The first value that is not finite, counted from 0; NULL when all are."),
        ("last_ms", sa.BigInteger, "Time of the last point."),
    ):
        op.add_column("chunks", sa.Column(name, kind, comment=comment))
    if op.get_bind().dialect.name == "postgresql":
        # Rows live for a minute or so: their room must be free again before the next ones come.
        op.execute(
            "ALTER TABLE chunk_tail SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0, "
            "toast.autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_cost_delay = 0)"
        )


def downgrade() -> None:
    """Takes them away."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "ALTER TABLE chunk_tail RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay, "
            "toast.autovacuum_vacuum_scale_factor, toast.autovacuum_vacuum_cost_delay)"
        )
    for name in _COLUMNS:
        op.drop_column("chunks", name)
