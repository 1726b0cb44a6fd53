"""One sender for a directory and a server, at any time."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Final

from tracker_client.journal.folder import is_locked, take_lock

_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.02


def sender_lock_path(directory: Path, server: str) -> Path:
    """The file that a sender keeps locked."""
    return directory / f"sender-{hashlib.sha256(server.encode()).hexdigest()[:12]}.lock"


def take_sender_lock(directory: Path, server: str) -> int | None:
    """Becomes the sender: the descriptor to be kept, or None when there is one. Raises OSError."""
    for _ in range(_TRIES):
        descriptor = take_lock(sender_lock_path(directory, server))
        if descriptor is not None:
            return descriptor
        # Somebody who only looks holds it for an instant.
        time.sleep(_PAUSE_SECONDS)
    return None


def sender_at_work(directory: Path, server: str) -> bool:
    """Whether there is a sender."""
    return is_locked(sender_lock_path(directory, server))
