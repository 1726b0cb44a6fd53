"""The tracker in its full form on this machine: RabbitMQ, Redis, PostgreSQL, `serve` and `consume`, logs in one view.

    python -m deploy.stack [--servers N] [--consumers N]

Ctrl-C or SIGTERM ends all of it in order: first what takes writes, then what stores them, then the servers.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from honcho.manager import Manager

from deploy.servers import PostgreSQL, RabbitMQ, Redis, Server, ServerError, start_all, stop_all
from deploy.servers.keeper import keeper_command
from deploy.servers.processes import wait_until

_ROOT = Path(__file__).resolve().parents[1]
_DEFAULT_LISTEN = "127.0.0.1:50051"
_GRACE_SECONDS = 30


class _View(Manager):  # type: ignore[misc]
    """Runs the processes and shows their output; ends them stage by stage instead of all at once."""

    _terminating: bool

    def __init__(self, servers: Sequence[Server]) -> None:
        super().__init__()
        self._servers = servers
        self._stages: list[list[str]] = []
        self.clean = True

    def add_stage(self, commands: dict[str, tuple[list[str], dict[str, str]]]) -> None:
        """Add processes that are to end together, after those of the stages added before."""
        self._stages.append(list(commands))
        for name, (command, environment) in commands.items():
            line = f"exec {shlex.join(keeper_command(command))}"
            self.add_process(name, line, env=environment, cwd=str(_ROOT))

    def terminate(self) -> None:
        """Called when a signal has come, and when a process has ended: begin to end everything."""
        if self._terminating:
            return
        self._terminating = True
        if self.returncode not in (130, 143):
            ended = [name for name, process in self._processes.items() if process.get("returncode") is not None]
            self._system_print(f"{', '.join(ended)} ended unasked: stopping everything\n")
            self.clean = False
        threading.Thread(target=self._end_in_order).start()

    def kill(self) -> None:
        """Each stage has its own grace; the common one is not wanted."""

    def _end_in_order(self) -> None:
        for stage in self._stages:
            self._end(stage, _GRACE_SECONDS)
        self._system_print("stopping the servers\n")
        stop_all(*self._servers)
        # What only showed a server's log ends with the server.
        self._end([name for name in self._processes if not self._ended(name)], 5, first=None)

    def _end(self, names: list[str], seconds: float, first: signal.Signals | None = signal.SIGTERM) -> None:
        def all_ended() -> bool:
            return all(self._ended(name) for name in names)

        if first is not None:
            self._signal(names, first)
        if not wait_until(all_ended, seconds, interval=0.05):
            self._system_print(f"{', '.join(names)} did not end within {seconds} s: killing\n")
            self._signal(names, signal.SIGKILL)
            wait_until(all_ended, seconds, interval=0.05)
        if any(self._processes[name].get("returncode") for name in names):
            self.clean = False

    def _signal(self, names: list[str], number: signal.Signals) -> None:
        for name in names:
            if not self._ended(name):
                (self._procmgr.kill if number == signal.SIGKILL else self._procmgr.terminate)(
                    self._processes[name]["pid"]
                )

    def _ended(self, name: str) -> bool:
        return self._processes[name].get("returncode") is not None


def _listen_addresses(first: str, number: int) -> list[str]:
    host, _, port = first.rpartition(":")
    return [f"{host}:{int(port) + offset}" for offset in range(number)]


def _name(base: str, index: int) -> str:
    return base if index == 0 else f"{base}.{index + 1}"


def _tell(addresses: list[str], servers: Sequence[Server]) -> None:
    first = addresses[0]
    print(f"\nThe tracker listens on {', '.join(addresses)}; its parts, with their data in .stack/:")
    for server in servers:
        print(f"  {server.name:<11} {server.url}")
    print(
        "Try it:\n"
        "  .venv/bin/buf curl --protocol grpc --http2-prior-knowledge"
        f" http://{first}/tracker.v1.TrackerService/GetServerInfo -d '{{}}'\n"
        f"  grpcurl -plaintext {first} tracker.v1.TrackerService/GetServerInfo\n"
        "Ctrl-C stops all of it.\n",
        flush=True,
    )


def _run(options: argparse.Namespace, servers: tuple[RabbitMQ, Redis, PostgreSQL]) -> int:
    rabbitmq, redis, postgresql = servers
    print("starting RabbitMQ, Redis and PostgreSQL ...", flush=True)
    start_all(*servers)
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "TRACKER_BROKER_URL": rabbitmq.url,
        "TRACKER_CACHE_URL": redis.url,
        "TRACKER_DATABASE_URL": postgresql.url,
    }
    addresses = _listen_addresses(environment.get("TRACKER_LISTEN", _DEFAULT_LISTEN), options.servers)
    program = [sys.executable, "-m", "tracker_server"]
    if subprocess.run([*program, "migrate"], env=environment, cwd=_ROOT, check=False).returncode:
        print("the migrations failed", file=sys.stderr)
        return 1

    view = _View(servers)
    view.add_stage(
        {
            _name("serve", index): ([*program, "serve"], {**environment, "TRACKER_LISTEN": address})
            for index, address in enumerate(addresses)
        }
    )
    view.add_stage(
        {_name("consume", index): ([*program, "consume"], environment) for index in range(options.consumers)}
    )
    for server in servers:
        follow = ["tail", "-n", "0", "-s", "0.2", f"--pid={server.pid}", "-F", str(server.log_path)]
        view.add_process(server.name, f"exec {shlex.join(follow)} 2>/dev/null")
    _tell(addresses, servers)
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    view.loop()
    return 0 if view.clean else 1


def main() -> int:
    """Start everything, show it, and end everything."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.stack", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--servers", type=int, default=1, metavar="N", help="how many `serve`, on ports that follow")
    parser.add_argument("--consumers", type=int, default=1, metavar="N", help="how many `consume`")
    parser.add_argument("--directory", type=Path, default=_ROOT / ".stack", help="where the servers keep their data")
    options = parser.parse_args()
    if options.servers < 1 or options.consumers < 0:
        parser.error("at least one server is needed, and no negative number of consumers")

    # Until the view takes over, SIGTERM is what Ctrl-C is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    servers = (
        RabbitMQ(options.directory / "rabbitmq"),
        Redis(options.directory / "redis"),
        PostgreSQL(options.directory / "postgresql"),
    )
    try:
        return _run(options, servers)
    except KeyboardInterrupt:
        return 0
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        stop_all(*servers)


if __name__ == "__main__":
    sys.exit(main())
