"""A private PostgreSQL."""

import re
import signal
from pathlib import Path
from typing import ClassVar

from deploy.servers.errors import ServerError
from deploy.servers.packages import Package
from deploy.servers.ports import LOOPBACK
from deploy.servers.server import Server

_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
_SUPERUSER = "tracker"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class PostgreSQL(Server):
    """PostgreSQL 15, safe against crashes, with a database `tracker`."""

    name: ClassVar[str] = "postgresql"
    package: ClassVar[Package] = Package("postgresql-15", (_PROGRAMS / "postgres").exists)
    users: ClassVar[tuple[str, ...]] = ("postgres", "nobody")
    # "Fast shutdown": does not wait for clients to leave.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    @property
    def url(self) -> str:
        """The database `tracker`."""
        return self.database_url("tracker")

    def database_url(self, name: str) -> str:
        """A database by name."""
        return f"postgresql+psycopg2://{_SUPERUSER}@{LOOPBACK}:{self.port}/{name}"

    def create_database(self, name: str) -> str:
        """Create an empty database; returns its URL."""
        self._sql(f"CREATE DATABASE {_checked(name)} TEMPLATE template0")
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, and whoever is connected to it."""
        self._sql(f"DROP DATABASE IF EXISTS {_checked(name)} WITH (FORCE)")

    @property
    def _cluster(self) -> Path:
        return self.data / "cluster"

    def _prepare(self) -> None:
        # An initdb that was cut off leaves a directory that never becomes a cluster: so it works in a draft.
        if not self._cluster.exists():
            draft = self.data / "draft"
            self._tool("rm", "-rf", str(draft))
            options = ["--locale=C.UTF-8", "--encoding=UTF8", "--auth=trust", f"--username={_SUPERUSER}"]
            self._tool(str(_PROGRAMS / "initdb"), *options, "--pgdata", str(draft))
            self._tool("mv", str(draft), str(self._cluster))
        # Left by a kill; the pid in it may by now be some other process's, and PostgreSQL would not start. That no
        # process of an earlier run is left has been seen to already.
        self._tool("rm", "-f", str(self._cluster / "postmaster.pid"))

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 100,
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "wal_compression": "on",
            "fsync": "on",
            "jit": "off",
            "logging_collector": "off",
            "log_checkpoints": "off",
            "log_min_duration_statement": -1,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(_PROGRAMS / "postgres"), "-D", str(self._cluster), *options]

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "PGCONNECT_TIMEOUT": "5"}

    def _answers(self) -> bool:
        try:
            self._sql("SELECT 1")
        except ServerError:
            return False
        return True

    def _after_start(self) -> None:
        if not self._sql("SELECT 1 FROM pg_database WHERE datname = 'tracker'"):
            self.create_database("tracker")

    def _sql(self, statement: str) -> str:
        reach = ["--host", LOOPBACK, "--port", str(self.port), "--username", _SUPERUSER, "--dbname", "postgres"]
        return self._tool(str(_PROGRAMS / "psql"), "-XqAt", *reach, "--command", statement).strip()


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        msg = f"not a name for a database: {name!r} (lower-case letters, digits and _ only)"
        raise ServerError(msg)
    return name
