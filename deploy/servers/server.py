"""What the three servers have in common: their life from start to end."""

import contextlib
import os
import pwd
import signal
import subprocess
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self

from deploy.servers.errors import ServerError
from deploy.servers.keeper import keeper_command
from deploy.servers.packages import Package, ensure_installed
from deploy.servers.ports import free_port, is_free
from deploy.servers.processes import descendants, signal_tree, stopped, wait_until
from deploy.servers.record import Record
from deploy.servers.state import prepare_directory, remove_directory

_START_SECONDS = 90
_TOOL_SECONDS = 60
_LARGEST_LOG = 16 * 1024 * 1024


class Server(ABC):
    """A private server on the loopback interface whose state lives in one directory.

    It ends with this process, however this process ends. A later `start` on the same directory finds the data again.
    """

    name: ClassVar[str]
    package: ClassVar[Package]
    users: ClassVar[tuple[str, ...]]
    """As whom it runs when we are root: the first that exists."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, directory: Path | str, port: int = 0) -> None:
        self.directory = Path(os.path.abspath(directory))  # noqa: PTH100 - a symbolic link stays one
        self.real = self.directory
        self.port = port or free_port()
        self.user: str | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._record: Record | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients reach it."""

    @abstractmethod
    def _prepare(self) -> None:
        """Write the configuration and, the first time, the data."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The server's own command line."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether a client would be served now."""

    def _environment(self) -> dict[str, str]:
        """What the server and its tools find in their environment."""
        return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(self.data), "LANG": "C.UTF-8"}

    def _after_start(self) -> None:
        """What is left to do once it answers."""
        return

    @property
    def data(self) -> Path:
        """The part of the directory that belongs to the server's own user."""
        return self.real / "data"

    @property
    def log_path(self) -> Path:
        """The file with everything the server says."""
        return self.real / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The pid of the server's main process."""
        if self._record is None or self._record.server is None:
            msg = f"{self.name} is not running"
            raise ServerError(msg)
        return self._record.server.pid

    @property
    def running(self) -> bool:
        """Whether its main process lives (paused counts)."""
        server = self._record.server if self._record else None
        return self._keeper is not None and self._keeper.poll() is None and server is not None and server.alive()

    def start(self) -> None:
        """Start it, and return when it answers."""
        if self.running:
            return
        ensure_installed([self.package])
        self.real, self.user = prepare_directory(self.directory, self.users)
        earlier = Record.read(self._record_path)
        if earlier:
            earlier.end_leftovers(self.directory)
        self._record_path.unlink(missing_ok=True)
        if not is_free(self.port):
            msg = f"{self.name} cannot start: port {self.port} is in use"
            raise ServerError(msg)
        try:
            self._prepare()
            self._launch()
            self._after_start()
        except BaseException:
            self.kill()
            raise

    def stop(self, seconds: float = 20) -> None:
        """End it in good order; after `seconds`, by force."""
        if self._keeper is None:
            return
        if self.running:
            self.resume()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all of its processes; returns when they are gone."""
        if self._keeper is None:
            return
        while self._keeper.poll() is None:
            signal_tree(self._keeper.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._keeper.wait(0.1)
        self._keeper = None
        self._record = None
        self._record_path.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop it and start it again with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze all of its processes (SIGSTOP): connections stay open, nothing answers."""
        keeper = self._running_keeper()

        def frozen() -> bool:
            if all(stopped(member) for member in descendants(keeper)):
                return True
            signal_tree(keeper, signal.SIGSTOP)
            return False

        if not wait_until(frozen, seconds=10):
            msg = f"{self.name} could not be paused"
            raise ServerError(msg)

    def resume(self) -> None:
        """Let a paused server go on."""
        signal_tree(self._running_keeper(), signal.SIGCONT)

    def remove(self) -> None:
        """End it and remove its directory."""
        self.kill()
        remove_directory(self.directory)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _record_path(self) -> Path:
        return self.real / f"{self.name}.pid"

    def _running_keeper(self) -> int:
        if self._keeper is None or not self.running:
            msg = f"{self.name} is not running"
            raise ServerError(msg)
        return self._keeper.pid

    def _launch(self) -> None:
        if self.log_path.exists() and self.log_path.stat().st_size > _LARGEST_LOG:
            self.log_path.replace(self.log_path.with_suffix(".log.old"))
        command = keeper_command(self._command(), user=self.user, log=self.log_path, record=self._record_path)
        keeper = subprocess.Popen(
            command,
            cwd=self.real,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._keeper = keeper

        def ready() -> bool:
            self._record = self._record or Record.read(self._record_path)
            return keeper.poll() is not None or (self._record is not None and self._answers())

        in_time = wait_until(ready, _START_SECONDS, interval=0.05)
        if not in_time or keeper.poll() is not None:
            what = "ended while starting" if in_time else f"did not answer within {_START_SECONDS} s"
            msg = f"{self.name} {what}; the end of {self.log_path}:\n{self._log_tail()}"
            raise ServerError(msg)

    def _log_tail(self, lines: int = 20) -> str:
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def _tool(self, *command: str, given: str | None = None) -> str:
        """Run one of the server's tools as the server's user; returns what it prints."""
        done = subprocess.run(
            command,
            user=self.user,
            group=pwd.getpwnam(self.user).pw_gid if self.user else None,
            extra_groups=[] if self.user else None,
            env=self._environment(),
            cwd="/",
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            timeout=_TOOL_SECONDS,
            check=False,
        )
        if done.returncode:
            msg = f"{' '.join(command[:2])} ... failed ({done.returncode}): {(done.stderr or done.stdout).strip()}"
            raise ServerError(msg)
        return done.stdout


def start_all(*servers: Server) -> None:
    """Start several servers at the same time; all of them, or none."""
    ensure_installed([server.package for server in servers])
    with ThreadPoolExecutor(len(servers)) as pool:
        try:
            for started in [pool.submit(server.start) for server in servers]:
                started.result()
        except BaseException:
            # Those that are still starting must not be waited for.
            for server in servers:
                server.kill()
            raise


def stop_all(*servers: Server) -> None:
    """Stop several servers at the same time."""
    with ThreadPoolExecutor(len(servers)) as pool:
        for ended in [pool.submit(server.stop) for server in servers]:
            ended.result()
