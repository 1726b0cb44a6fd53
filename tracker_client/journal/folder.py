"""Where journals lie, and who owns one.

DIRECTORY/journals/RUN~WRITER/owner.lock    locked by the process that writes, for as long as it lives
DIRECTORY/journals/RUN~WRITER/status        from the sender to the owner, see status.py
DIRECTORY/journals/RUN~WRITER/awaited       there once its process waits for all of it to arrive
DIRECTORY/journals/RUN~WRITER/000001.seg    the segments, in order
DIRECTORY/refused/                          what a server can never take
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Final

from tracker_client.journal.frames import Identity

_DIRECTORY_MODE: Final = 0o750
_SUFFIX: Final = ".seg"
_LOCK: Final = "owner.lock"
_GONE: Final = ".gone~"
_MAKING_SECONDS: Final = 60.0
"""Longer than a journal takes to be made."""
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.02


class JournalFolder:
    """The directory of one journal."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def status_path(self) -> Path:
        """The page from the sender to the owner."""
        return self.path / "status"

    @property
    def awaited_path(self) -> Path:
        """Its process waits for all of it to arrive, once this is there."""
        return self.path / "awaited"

    def segment_path(self, number: int) -> Path:
        """The file of the n-th segment, counted from 1."""
        return self.path / f"{number:06d}{_SUFFIX}"

    def segment_numbers(self) -> list[int]:
        """Of the segments that are there, ascending."""
        try:
            names = os.listdir(self.path)  # noqa: PTH208 - polled often, and only the names matter
        except FileNotFoundError:
            return []
        stems = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def size(self) -> int:
        """Bytes that its segments take up on disk."""
        total = 0
        for number in self.segment_numbers():
            with contextlib.suppress(FileNotFoundError):
                total += self.segment_path(number).stat().st_size
        return total

    def lock(self) -> int | None:
        """Becomes the owner: the descriptor that holds the lock until it is closed; None when there is an owner.

        Raises OSError.
        """
        return take_lock(self.path / _LOCK)

    def owned(self) -> bool:
        """Whether its process lives."""
        return is_locked(self.path / _LOCK)

    def remove(self) -> None:
        """Deletes it, unless somebody owns it. What cannot be deleted stays."""
        with contextlib.suppress(OSError):
            lock = take_lock_patiently(self.path / _LOCK)
            if lock is not None:
                try:
                    # First out of sight: whoever dies on the way leaves no journal of which a part is missing.
                    gone = self.path.rename(self.path.with_name(f"{_GONE}{self.path.name}"))
                    shutil.rmtree(gone, ignore_errors=True)
                finally:
                    os.close(lock)


def create_folder(directory: Path, identity: Identity) -> tuple[JournalFolder, int]:
    """A new journal's folder, and the descriptor that holds its lock. Raises OSError."""
    name = f"{identity.run_id}~{identity.writer_id}"
    hidden = JournalFolder(journals_path(directory) / f".{name}")
    hidden.path.mkdir(mode=_DIRECTORY_MODE, parents=True)
    # Locked before anybody can find it: to others a journal without an owner is one whose process has died.
    lock = take_lock(hidden.path / _LOCK)
    assert lock is not None, "nobody else knows this name"
    return JournalFolder(hidden.path.rename(journals_path(directory) / name)), lock


def list_folders(directory: Path) -> list[JournalFolder]:
    """All journals below a directory, in no order."""
    try:
        with os.scandir(journals_path(directory)) as entries:
            return [JournalFolder(Path(entry.path)) for entry in entries if entry.name[0] != "." and entry.is_dir()]
    except FileNotFoundError:
        return []


def remove_debris(directory: Path) -> None:
    """Deletes what processes have left that died while they were making or deleting a journal."""
    with contextlib.suppress(OSError), os.scandir(journals_path(directory)) as entries:
        for entry in entries:
            old = entry.name.startswith(_GONE) or time.time() - entry.stat().st_mtime > _MAKING_SECONDS
            if entry.name[0] == "." and old and not is_locked(Path(entry.path) / _LOCK):
                shutil.rmtree(entry.path, ignore_errors=True)


def journals_path(directory: Path) -> Path:
    """Where a directory's journals are."""
    return directory / "journals"


def take_lock(path: Path) -> int | None:
    """Locks a file, made if need be; the descriptor to be kept, or None when somebody has it. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def take_lock_patiently(path: Path, tries: int = _TRIES) -> int | None:
    """As take_lock, several times: somebody who only looks holds it for an instant. Raises OSError."""
    for _ in range(tries):
        descriptor = take_lock(path)
        if descriptor is not None:
            return descriptor
        time.sleep(_PAUSE_SECONDS)
    return None


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock. A file that is not there is not locked."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two that look at the same time do not take each other for the owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
