"""Installs the Debian packages of the servers where they are missing, without starting any system service."""

# ruff: noqa: S607 - runs the commands that this package names itself

import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.servers.errors import ServerError

_lock = threading.Lock()

# Says "no" to every service that a package wants to start while it is being installed.
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = "#!/bin/sh\nexit 101\n"
# Keeps Debian's PostgreSQL package from creating its own `main` cluster.
_NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/zz-no-main-cluster.conf")
_NO_CLUSTER_TEXT = "create_main_cluster = false\n"


@dataclass(frozen=True)
class Package:
    """A Debian package and how to see that it is there."""

    name: str
    installed: Callable[[], bool]


def ensure_installed(packages: Iterable[Package]) -> None:
    """Install those of the packages that are missing, or say in one line what to install."""
    wanted = tuple(packages)
    if not all(package.installed() for package in wanted):
        with _lock, _only_process():
            missing = [package.name for package in wanted if not package.installed()]
            if missing:
                install(missing)


def install(names: list[str]) -> None:
    """Install Debian packages as root or by a `sudo` that asks for no password."""
    command = f"apt-get install {' '.join(names)}"
    prefix = _privilege()
    if shutil.which("apt-get") is None or prefix is None:
        msg = f"missing on this machine: {', '.join(names)}; install them first, on Debian as root: {command}"
        raise ServerError(msg)
    print(f"installing {', '.join(names)} ...", flush=True)
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    with _file(prefix, _POLICY, _POLICY_TEXT, "755"), _file(prefix, _NO_CLUSTER, _NO_CLUSTER_TEXT, "644"):
        for step in (["update"], ["install", "-y", "--no-install-recommends", *names]):
            done = subprocess.run([*apt, *step], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = (done.stderr or done.stdout).strip().splitlines()[-1:]
                msg = f"`{command}` failed: {' '.join(reason)}"
                raise ServerError(msg)


def _privilege() -> list[str] | None:
    """What to put before a command to run it as root; None when that is not allowed."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    allowed = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    return ["sudo", "-n"] if allowed else None


@contextmanager
def _only_process() -> Iterator[None]:
    """Workers of one test run may all miss the same packages; apt turns away whoever comes second."""
    directory = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


@contextmanager
def _file(prefix: list[str], path: Path, text: str, mode: str) -> Iterator[None]:
    """A file of root's that exists while a package is being installed; one that is there already is left alone."""
    if path.exists():
        yield
        return
    had_directory = path.parent.exists()
    subprocess.run([*prefix, "mkdir", "-p", str(path.parent)], check=True)
    subprocess.run([*prefix, "tee", str(path)], input=text.encode(), stdout=subprocess.DEVNULL, check=True)
    subprocess.run([*prefix, "chmod", mode, str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run([*prefix, "rm", "-f", str(path)], check=False)
        if not had_directory:
            subprocess.run([*prefix, "rmdir", "--ignore-fail-on-non-empty", str(path.parent)], check=False)
