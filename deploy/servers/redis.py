"""A private Redis."""

import shutil
import socket
from typing import ClassVar

from deploy.servers.errors import ServerError
from deploy.servers.packages import Package
from deploy.servers.ports import LOOPBACK
from deploy.servers.server import Server

_PROGRAM = "/usr/bin/redis-server"


class Redis(Server):
    """Redis 7 as a cache: bounded memory, least recently used first out, nothing on disk."""

    name: ClassVar[str] = "redis"
    package: ClassVar[Package] = Package("redis-server", lambda: shutil.which(_PROGRAM) is not None)
    users: ClassVar[tuple[str, ...]] = ("redis", "nobody")

    @property
    def url(self) -> str:
        """The first of its sixteen databases."""
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """One of its sixteen databases."""
        return f"redis://{LOOPBACK}:{self.port}/{number}"

    def flush(self, number: int | None = None) -> None:
        """Forget everything, or everything in one database."""
        if number is None:
            self._call("FLUSHALL")
        else:
            self._call(f"SELECT {number}", "FLUSHDB")

    def _prepare(self) -> None:
        settings = {
            "bind": LOOPBACK,
            "port": self.port,
            "protected-mode": "yes",
            "daemonize": "no",
            "dir": self.data,
            "save": '""',
            "appendonly": "no",
            "maxmemory": "128mb",
            "maxmemory-policy": "allkeys-lru",
        }
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        (self.real / "redis.conf").write_text(text)

    def _command(self) -> list[str]:
        return [_PROGRAM, str(self.real / "redis.conf")]

    def _answers(self) -> bool:
        try:
            self._call("PING")
        except (OSError, ServerError):
            return False
        return True

    def _call(self, *commands: str) -> None:
        with socket.create_connection((LOOPBACK, self.port), timeout=5) as connection:
            replies = connection.makefile("rb")
            for command in commands:
                connection.sendall(f"{command}\r\n".encode())
                reply = replies.readline()
                if not reply.startswith(b"+"):
                    msg = f"redis answered {command} with {reply.decode(errors='replace').strip() or 'nothing'}"
                    raise ServerError(msg)
