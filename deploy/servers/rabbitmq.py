"""A private RabbitMQ."""

import os
import secrets
import shutil
import socket
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from deploy.servers.errors import ServerError
from deploy.servers.packages import Package
from deploy.servers.ports import LOOPBACK, free_port
from deploy.servers.server import Server

# Not Debian's wrappers in /usr/sbin: those insist on the system's own user and directories.
_PROGRAMS = Path("/usr/lib/rabbitmq/bin")
_LIBRARIES = Path("/usr/lib/rabbitmq/lib")
_ERL_CALL = "/usr/bin/erl_call"
_GREETING = b"AMQP\x00\x00\x09\x01"


class RabbitMQ(Server):
    """RabbitMQ 3.10, one node of its own name, with an epmd of its own, sized for a small machine."""

    name: ClassVar[str] = "rabbitmq"
    package: ClassVar[Package] = Package(
        "rabbitmq-server", lambda: (_PROGRAMS / "rabbitmq-server").exists() and shutil.which(_ERL_CALL) is not None
    )
    users: ClassVar[tuple[str, ...]] = ("rabbitmq", "nobody")

    def __init__(self, directory: Path | str, port: int = 0, memory: str = "1GB") -> None:
        super().__init__(directory, port)
        self.memory = memory
        self._distribution_port = free_port()
        self._epmd_port = free_port()

    @property
    def url(self) -> str:
        """The virtual host `/`."""
        return self.vhost_url("/")

    def vhost_url(self, name: str) -> str:
        """A virtual host by name."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/{quote(name, safe='')}"

    def add_vhost(self, name: str) -> str:
        """Create a virtual host that `guest` may do everything in; returns its URL."""
        vhost, guest, everything = _binary(name), _binary("guest"), _binary(".*")
        self.evaluate(
            f"ok = rabbit_vhost:add({vhost}, {guest}), "
            "ok = rabbit_auth_backend_internal:set_permissions("
            f"{guest}, {vhost}, {everything}, {everything}, {everything}, {guest})"
        )
        return self.vhost_url(name)

    def delete_vhost(self, name: str) -> None:
        """Remove a virtual host with all that is in it."""
        self.evaluate(f"rabbit_vhost:delete({_binary(name)}, {_binary('guest')})")

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl`; returns what it prints. Takes a second or two; `evaluate` is much faster."""
        return self._tool(str(_PROGRAMS / "rabbitmqctl"), "--quiet", *arguments)

    def evaluate(self, expression: str) -> str:
        """Evaluate an Erlang expression in the node; returns the value, as text."""
        cookie = (self.real / "cookie").read_text()
        reach = ["-address", f"{LOOPBACK}:{self._distribution_port}", "-c", cookie]
        answer = self._tool(_ERL_CALL, *reach, "-e", given=f"{expression}.\n")
        if not answer.startswith("{ok, "):
            msg = f"rabbitmq answered {expression} with {answer.strip()}"
            raise ServerError(msg)
        return answer.removeprefix("{ok, ").removesuffix("}")

    def _kept(self, name: str, first: str) -> str:
        """A text that is chosen once for a directory."""
        path = self.real / name
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(first)
        return path.read_text()

    @property
    def _node(self) -> str:
        return self._kept("node", f"tracker-{secrets.token_hex(4)}@localhost")

    def _prepare(self) -> None:
        settings = {
            "listeners.tcp.default": f"{LOOPBACK}:{self.port}",
            "loopback_users.guest": "true",
            "disk_free_limit.absolute": "50MB",
            "vm_memory_high_watermark.absolute": self.memory,
            "raft.wal_max_size_bytes": 64 * 1024 * 1024,
            "log.file": "false",
            "log.console": "true",
            "log.console.level": "info",
            "log.console.use_colors": "off",
        }
        text = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (self.real / "rabbitmq.conf").write_text(text)
        # Each stands in for one of the system's own that would be read otherwise.
        (self.real / "advanced.config").write_text("[].\n")
        (self.real / "enabled_plugins").write_text("[].\n")
        (self.real / "rabbitmq-env.conf").write_text("")
        self._link_libraries()
        cookie = self._kept("cookie", secrets.token_hex(20))
        self._tool("sh", "-c", 'umask 077; cat > "$HOME/.erlang.cookie"', given=cookie)

    def _link_libraries(self) -> None:
        """A directory with RabbitMQ's libraries and none of its plugins: with less to search, it starts faster."""
        shutil.rmtree(self.real / "libraries", ignore_errors=True)
        (self.real / "libraries").mkdir()
        for library in _LIBRARIES.glob("rabbitmq_server-*/plugins/*"):
            if library.name.startswith("rabbitmq_prelaunch-") or not library.name.startswith("rabbitmq_"):
                (self.real / "libraries" / library.name).symlink_to(library)

    def _command(self) -> list[str]:
        return [str(_PROGRAMS / "rabbitmq-server")]

    def _environment(self) -> dict[str, str]:
        # Two schedulers that go to sleep at once leave a small machine to the others on it.
        vm = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
        data = self.data
        return {
            **super()._environment(),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.real / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.real / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.real / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.real / "enabled_plugins"),
            "RABBITMQ_PLUGINS_DIR": str(self.real / "libraries"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(data / "config"),
            "RABBITMQ_SCHEMA_DIR": str(data / "schema"),
            "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(data / "log"),
            "RABBITMQ_PID_FILE": str(data / "rabbitmq.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": vm,
            # The start script becomes the server instead of waiting for it: one process to signal.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=5) as connection:
                connection.sendall(_GREETING)
                # The first frame of a node that takes connections: a method on channel 0.
                return connection.recv(3) == b"\x01\x00\x00"
        except OSError:
            return False


def _binary(text: str) -> str:
    """A text as an Erlang binary."""
    return f"<<{','.join(str(byte) for byte in os.fsencode(text))}>>"
