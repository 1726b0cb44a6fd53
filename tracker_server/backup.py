"""A copy of the embedded form's database, made while it is at work."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from tracker_server.errors import TrackerError


class BackupFailed(TrackerError):
    """The database could not be copied."""

    reason = "BACKUP_FAILED"


def back_up(database: Path, target: Path) -> int:
    """Copies a SQLite database, as it is at one moment, to a new file; returns its size in bytes.

    The copy is whole and on disk before it has its name, and writers do not wait for it. Raises BackupFailed.
    """
    if not database.exists():
        message = f"there is no database {database}; TRACKER_DATABASE_URL names it"
        raise BackupFailed(message)
    if target.exists():
        message = f"{target} exists; name a file that does not"
        raise BackupFailed(message)
    partial = target.with_name(f"{target.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(partial)) as copy,
        ):
            # In one step: between two, each commit of the service would make it begin anew.
            source.backup(copy, pages=-1)
            # One file, without a -wal beside it.
            copy.execute("PRAGMA journal_mode=DELETE").close()
        _sync(partial)
        partial.rename(target)
        _sync(target.parent)
    except (sqlite3.Error, OSError) as error:
        partial.unlink(missing_ok=True)
        message = f"{database} could not be copied to {target}: {error}"
        raise BackupFailed(message) from error
    return target.stat().st_size


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
