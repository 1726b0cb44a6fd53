"""Sends what journals still hold, in the foreground: `tracker sync`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tracker_client.endpoint import endpoint
from tracker_client.journal.folder import JournalFolder, list_folders
from tracker_client.journal.frames import Identity
from tracker_client.journal.reader import JournalReader, is_blank
from tracker_client.sender.courier import Courier
from tracker_client.sender.lock import handover_path, take_sender_lock
from tracker_client.settings import load_settings

WAIT_FOR_SENDER_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """How far it is."""

    journals: int
    """Journals not done with."""
    points: int
    """Points that have arrived."""
    left_bytes: int
    """Bytes still in the journals."""
    message: str
    """What is wrong with the server just now; empty when nothing is."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What came of it."""

    points: int
    """Points that have arrived."""
    sent: int
    """Journals that are done with and deleted."""
    left: int
    """Journals that still hold something to be sent."""
    running: int
    """Journals of processes that still write to them; their own sender sends those."""
    unreadable: tuple[Path, ...]
    """Journals without one readable header: nobody knows whose they are."""
    refused: int
    """Writes that the server can never take; see the folder `refused`."""
    message: str
    """What was last wrong with a server; empty when nothing was."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left but what running processes write."""
        return not self.left and not self.unreadable


def sync_directory(
    directory: Path,
    *,
    server: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    progress: Callable[[SyncProgress], None] | None = None,
) -> SyncReport:
    """Sends every journal below a directory, and returns when all have arrived or the time is over.

    server: where to, instead of where each journal says; api_key: None: TRACKER_API_KEY. timeout: seconds, None: until
    all is sent. Where a sender is at work already, it is left to it and waited for.

    Raises BadSetting.
    """
    began = time.monotonic()
    deadline = float("inf") if timeout is None else began + timeout
    groups: dict[str, dict[Identity, JournalFolder]] = {}
    unreadable: list[Path] = []
    before = _unowned(directory)
    for folder in before:
        reader = JournalReader(folder)
        reader.close()
        if reader.identity is not None:
            groups.setdefault(reader.identity.server, {})[reader.identity] = folder
        elif is_blank(folder):
            folder.remove()
        else:
            unreadable.append(folder.path)
    points = refused = 0
    message = ""
    for recorded, journals in groups.items():
        target = server or recorded or load_settings().server
        done = _sync_group(directory, recorded, target, api_key, journals, deadline, progress)
        points, refused, message = points + done[0], refused + done[1], done[2] or message
    left = [folder for group in groups.values() for folder in group.values() if folder.path.exists()]
    return SyncReport(
        points=points,
        sent=sum(map(len, groups.values())) - len(left),
        left=len(left),
        running=len(list_folders(directory)) - len(left) - len(unreadable),
        unreadable=tuple(unreadable),
        refused=refused,
        message=message if left else "",
    )


def _unowned(directory: Path) -> list[JournalFolder]:
    return sorted((f for f in list_folders(directory) if not f.owned()), key=lambda folder: folder.path)


def _sync_group(
    directory: Path,
    recorded: str,
    target: str,
    api_key: str | None,
    journals: Mapping[Identity, JournalFolder],
    deadline: float,
    progress: Callable[[SyncProgress], None] | None,
) -> tuple[int, int, str]:
    """Sends the journals that name one server; points, refused writes, and what is wrong."""
    to = endpoint(target, api_key)
    folders, identities = tuple(journals.values()), journals.keys()
    lock = take_sender_lock(directory, recorded)
    handover = handover_path(directory, recorded)
    if lock is None:
        handover.touch()
    while lock is None and time.monotonic() < deadline and any(folder.path.exists() for folder in folders):
        _tell(progress, folders, 0, "another sender is at work")
        time.sleep(WAIT_FOR_SENDER_SECONDS)
        lock = take_sender_lock(directory, recorded)
    handover.unlink(missing_ok=True)
    if lock is None:
        return 0, 0, "another sender is at work"
    paths = {folder.path for folder in folders}
    # Of running processes those too that go to the same place: their own sender cannot, meanwhile.
    courier = Courier(
        directory,
        to,
        lambda identity: identity.server == recorded and (target == recorded or identity in identities),
        awaited=True,
    )
    try:
        courier.turn()
        while time.monotonic() < deadline and any(outbox.folder.path in paths for outbox in courier.pending):
            courier.turn()
            _tell(progress, folders, courier.points, courier.message)
        courier.sweep()
    finally:
        courier.close()
        os.close(lock)
    return courier.points, courier.refused, courier.message


def _tell(
    progress: Callable[[SyncProgress], None] | None, folders: Iterable[JournalFolder], points: int, message: str
) -> None:
    if progress is not None:
        left = [folder for folder in folders if folder.path.exists()]
        progress(SyncProgress(len(left), points, sum(folder.size() for folder in left), message))
