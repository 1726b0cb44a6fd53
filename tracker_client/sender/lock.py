"""One sender for a directory and a server, at any time."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tracker_client.journal.folder import is_locked, take_lock_patiently


def sender_lock_path(directory: Path, server: str) -> Path:
    """The file that a sender keeps locked."""
    return directory / f"sender-{hashlib.sha256(server.encode()).hexdigest()[:12]}.lock"


def take_sender_lock(directory: Path, server: str) -> int | None:
    """Becomes the sender: the descriptor to be kept, or None when there is one. Raises OSError."""
    return take_lock_patiently(sender_lock_path(directory, server))


def handover_path(directory: Path, server: str) -> Path:
    """A file that is there while `sync` waits for the sender's place: one that gets nowhere then makes room."""
    return sender_lock_path(directory, server).with_suffix(".handover")


def sender_at_work(directory: Path, server: str) -> bool:
    """Whether there is a sender."""
    return is_locked(sender_lock_path(directory, server))
