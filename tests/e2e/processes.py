"""`tracker_server` as real processes: started, paused, resumed, killed, ended; each with its log."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.servers.ports import free_port
from deploy.servers.processes import wait_until

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
END_SECONDS = 30
_ANNOUNCED = re.compile(r"(?:^listening on |listens on )([\d.]+:\d+)", re.MULTILINE)
# Becomes the program itself, after it has asked the kernel to kill it when the tests end, however they end.
_LAUNCHER = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)\n"
    "if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])"
)
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 300),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)
"""A connection of its own for each channel, and quick to be back."""


class Tracker:
    """One `tracker_server` process. It ends with this process."""

    def __init__(self, role: str, environment: Mapping[str, str], log_path: Path) -> None:
        """role: up, serve or consume."""
        self.role = role
        self.log_path = log_path
        # Below the ports of outgoing connections: nobody takes it while the server is down.
        self._port = free_port()
        listen = "TRACKER_HEALTH_LISTEN" if role == "consume" else "TRACKER_LISTEN"
        self._environment = {**environment, listen: f"127.0.0.1:{self._port}"}
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self.address = f"127.0.0.1:{self._port}"
        """Of the service; of a consumer, of its health checks."""

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives (paused counts)."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the present process has said."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def launch(self, **environment: str) -> None:
        """Starts the process and does not wait for it."""
        assert not self.running
        self._environment |= environment
        command = [sys.executable, "-m", "tracker_server", self.role]
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _LAUNCHER, str(os.getpid()), *command],
                cwd=self.log_path.parent,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start(self, **environment: str) -> Tracker:
        """Starts the process and waits until it is of use."""
        self.launch(**environment)
        self.wait_ready()
        return self

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Returns when it says SERVING, and, of a server, where it was told to listen."""

        def ready() -> bool:
            assert self.running, self.describe("ended while starting")
            return self.health() == "SERVING"

        assert wait_until(ready, seconds, interval=0.05), self.describe("is not ready")
        if self.role != "consume":
            announced = _ANNOUNCED.search(self.log)
            assert announced, self.describe("has not announced its address")
            assert announced[1] == self.address

    def health(self, service: str = "") -> str:
        """What it answers to a health check; empty when it does not answer."""
        with grpc.insecure_channel(self.address, options=CHANNEL_OPTIONS) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=2)
            except grpc.RpcError:
                return ""
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def wait_health(self, status: str, seconds: float, service: str = "") -> float:
        """Returns how long it took until health checks said so."""
        began = time.monotonic()
        became = wait_until(lambda: self.health(service) == status, seconds, interval=0.02)
        assert became, self.describe(f"does not become {status}")
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait(END_SECONDS)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, seconds: float = END_SECONDS) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.describe(f"has not ended within {seconds} s")) from None

    def describe(self, what: str) -> str:
        """A message with the end of its log."""
        lines = self.log.splitlines()[-60:]
        return "\n".join([f"tracker_server {self.role} ({self.log_path.name}) {what}; its log:", *lines])


def run_command(
    environment: Mapping[str, str], *arguments: str, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """A command of the command line, from start to end."""
    return subprocess.run(
        [sys.executable, "-m", "tracker_server", *arguments],
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
