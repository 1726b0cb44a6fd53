"""Where a server keeps its state, and as which user it runs."""

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from deploy.servers.errors import ServerError

# For state that cannot stay where the caller wants it, because the server's user cannot get there.
_ELSEWHERE = Path("/var/tmp")  # noqa: S108 - a directory of a new, random name is made there


def prepare_directory(directory: Path, users: Iterable[str]) -> tuple[Path, str | None]:
    """Make a server's directory; returns its real path and the user to run as (None: the caller itself).

    The directory belongs to the caller; `data` in it belongs to the server's user, for whom every directory above is
    passable. Where that cannot be (root's home, say), the directory becomes a symbolic link to one that is.
    """
    if directory.is_symlink() and not directory.exists():
        directory.unlink()
    directory.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return _own_directory(directory.resolve()), None
    user = _choose_user(directory / "data", users)
    directory.chmod(directory.stat().st_mode | 0o055)
    if not all(_passable(parent, user) for parent in directory.resolve().parents):
        _move_elsewhere(directory)
    real = directory.resolve()
    data = real / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    os.chown(data, user.pw_uid, user.pw_gid)
    return real, user.pw_name


def remove_directory(directory: Path) -> None:
    """Remove a server's directory, wherever its state really is."""
    real = directory.resolve()
    if directory.is_symlink():
        directory.unlink()
    shutil.rmtree(real, ignore_errors=True)


def _own_directory(directory: Path) -> Path:
    data = directory / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    if data.stat().st_uid != os.geteuid():
        msg = f"{data} belongs to another user; remove {directory} as that user or root, or use another directory"
        raise ServerError(msg)
    return directory


def _choose_user(data: Path, users: Iterable[str]) -> pwd.struct_passwd:
    """The user that owns the data already, else the first of the given ones that exists."""
    if data.exists() and data.stat().st_uid != 0:
        return pwd.getpwuid(data.stat().st_uid)
    for name in users:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    msg = f"no unprivileged user to run as: none of {', '.join(users)} exists"
    raise ServerError(msg)


def _passable(directory: Path, user: pwd.struct_passwd) -> bool:
    status = directory.stat()
    if status.st_uid == user.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == user.pw_gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _move_elsewhere(directory: Path) -> None:
    elsewhere = Path(tempfile.mkdtemp(prefix=f"tracker-{directory.name}-", dir=_ELSEWHERE))
    elsewhere.chmod(0o755)
    shutil.copytree(directory, elsewhere, dirs_exist_ok=True, symlinks=True)
    shutil.rmtree(directory)
    directory.symlink_to(elsewhere)
