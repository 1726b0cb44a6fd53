"""Servers that clients of trackers talk to, on loopback, each in a directory of its own."""

from __future__ import annotations

import contextlib
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from benchmarks import forms
from deploy.servers import PostgreSQL
from deploy.servers.keeper import keeper_command
from deploy.servers.ports import LOOPBACK, free_port

_START_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 20.0
_IDLE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Served:
    """What a client has to know."""

    address: str = ""
    """Empty: the tracker has no server."""
    database: str = ""
    """URL of the server's database."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For the client."""


class NotStarted(Exception):
    """A server did not come up. The message says what its log says."""


@contextmanager
def none(_python: Path, _directory: Path, _environment: Mapping[str, str]) -> Iterator[Served]:
    """For clients that write into their own directory."""
    yield Served()


@contextmanager
def mlflow_sqlite(python: Path, directory: Path, environment: Mapping[str, str]) -> Iterator[Served]:
    """`mlflow server` with its default store."""
    with _mlflow(python, directory, environment, f"sqlite:///{directory / 'mlflow.db'}") as served:
        yield served


@contextmanager
def mlflow_postgresql(python: Path, directory: Path, environment: Mapping[str, str]) -> Iterator[Served]:
    """`mlflow server` on a PostgreSQL as this project's full form has it."""
    postgresql = PostgreSQL(directory / "postgresql")
    try:
        with postgresql, _mlflow(python, directory, environment, postgresql.create_database("mlflow")) as served:
            yield served
    finally:
        postgresql.remove()


@contextmanager
def tracker_full(_python: Path, _directory: Path, _environment: Mapping[str, str]) -> Iterator[Served]:
    """RabbitMQ, Redis, PostgreSQL, one server and one consumer of this project."""
    with forms.full() as form:
        assert form.postgresql is not None
        yield Served(form.address, form.postgresql.url, form.deployment.environment)


@contextmanager
def tracker_embedded(_python: Path, _directory: Path, _environment: Mapping[str, str]) -> Iterator[Served]:
    """One process of this project and SQLite."""
    with forms.embedded() as form:
        yield Served(form.address, form.deployment.settings["database_url"], form.deployment.environment)


@contextmanager
def _mlflow(python: Path, directory: Path, environment: Mapping[str, str], store: str) -> Iterator[Served]:
    port = free_port()
    command = [str(python.parent / "mlflow"), "server", "--host", LOOPBACK, "--port", str(port)]
    command += ["--backend-store-uri", store, "--default-artifact-root", str(directory / "artifacts")]
    log = directory / "server.log"
    with subprocess.Popen(keeper_command(command, log=log), cwd=directory, env=dict(environment)) as process:
        try:
            _wait(f"http://{LOOPBACK}:{port}/health", process, log)
            _wait_idle(process.pid)
            yield Served(f"http://{LOOPBACK}:{port}", store)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_idle(pid: int) -> None:
    """MLflow answers before all of its workers have started; that must not slow down what is measured."""
    deadline = time.monotonic() + _IDLE_SECONDS
    used, idle = _cpu_seconds(pid), 0
    while idle < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
        before, used = used, _cpu_seconds(pid)
        idle = idle + 1 if used - before < 0.05 else 0


def _cpu_seconds(pid: int) -> float:
    """Of a process and all of its descendants, while they live."""
    total = 0.0
    for one in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    # The environment's proxies are not for loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with opener.open(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    said = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
    what = "ended while starting" if process.poll() is not None else f"did not answer within {_START_SECONDS:.0f} s"
    raise NotStarted(f"{what}: {' '.join(said)[-300:]}")
