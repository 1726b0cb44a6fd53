"""The keeper of a directory in this process, with its sender; and which directory it is, where the wanted one cannot be used."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Final

from tracker_client.journal.folder import journals_path, list_folders
from tracker_client.keeper import Keeper
from tracker_client.reporter import OnError, Reporter
from tracker_client.sender.process import SenderProcess
from tracker_client.settings import Mode, Settings

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "lustre", "gpfs", "beegfs", "ceph", "afs", "glusterfs", "fuse.sshfs"}
)
"""On which a write to mapped memory may wait for a server, and locks may mean little."""

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_keepers: dict[tuple[str, str, Mode], Keeper] = {}
_lock = threading.RLock()
_reporter = Reporter(OnError.WARN)


def keeper_for(settings: Settings) -> Keeper:
    """The one keeper of this process for a directory and a server. Raises OSError when no directory can be used."""
    key = (str(settings.directory.absolute()), settings.server, settings.mode)
    with _lock:
        if key not in _keepers:
            directory = _usable(settings.directory.absolute())
            _warn_of_network(directory)
            sender = None
            if settings.mode is Mode.ONLINE:
                sender = SenderProcess(directory, settings.server, settings.api_key, _reporter.warn)
            _keepers[key] = Keeper(directory, sender, settings.journal_bytes, _reporter.warn)
        return _keepers[key]


def file_system_of(directory: Path, mounts: str) -> str:
    """The type of the file system that a directory is on. mounts: as /proc/self/mountinfo has them."""
    found, longest = "", -1
    for line in mounts.splitlines():
        fields = line.split()
        if "-" not in fields:
            continue
        # Spaces and the like stand there as \040; what is beyond ASCII, as it is.
        point = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4]))
        if (directory == point or point in directory.parents) and len(point.parts) >= longest:
            found, longest = fields[fields.index("-") + 1], len(point.parts)
    return found


def _usable(wanted: Path) -> Path:
    try:
        _try(wanted)
    except OSError as error:
        instead = Path(tempfile.gettempdir()) / f"tracker-{os.getuid()}"
        _try(instead)
        _reporter.warn(f"journals cannot be kept in {wanted} ({error.strerror}); they are in {instead} instead")
        return instead
    return wanted


def _try(directory: Path) -> None:
    """Raises OSError unless journals can be kept there."""
    journals_path(directory).mkdir(mode=0o750, parents=True, exist_ok=True)
    probe = directory / f".probe-{os.getpid()}-{threading.get_ident()}"
    probe.touch()
    probe.unlink()
    list_folders(directory)


def _warn_of_network(directory: Path) -> None:
    try:
        kind = file_system_of(directory.resolve(), Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    except OSError:
        return
    if kind in NETWORK_FILE_SYSTEMS:
        _reporter.warn(
            f"{directory} is on a network file system ({kind}), where logging may wait for the network; "
            "set TRACKER_DIR to a directory on a local disk"
        )


def _forget() -> None:
    """In the child of a fork: the parent's threads are not there."""
    global _lock  # noqa: PLW0603 - the parent may have held it
    _lock = threading.RLock()
    _keepers.clear()


os.register_at_fork(after_in_child=_forget)
