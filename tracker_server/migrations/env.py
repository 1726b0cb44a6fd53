"""Run by Alembic; the connection is handed over by store/schema.py."""

from __future__ import annotations

from alembic import context

from tracker_server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=False
)
context.run_migrations()
