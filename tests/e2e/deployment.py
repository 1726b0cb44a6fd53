"""A whole tracker for a test, in either form: its processes, its settings, a stub to talk to it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import grpc

from tests.e2e.processes import CHANNEL_OPTIONS, ROOT, Tracker
from tracker.v1 import tracker_service_pb2_grpc as rpc
from tracker_server.config import Settings
from tracker_server.store.store import open_store

LOG_TAIL = 80


class Deployment:
    """The processes of one tracker. In the embedded form one `up` is both the server and the consumer."""

    def __init__(self, directory: Path, **settings: str) -> None:
        """settings: without TRACKER_, in lower case. Without broker_url it is the embedded form."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.embedded = "broker_url" not in settings
        if self.embedded:
            settings = {"database_url": f"sqlite:///{directory / 'tracker.db'}", **settings}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}
        self.environment = {
            **clean,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "generated"))),
            **_variables(settings),
        }
        self.settings = settings
        self.trackers: list[Tracker] = []
        self._channels: dict[str, grpc.Channel] = {}

    @property
    def servers(self) -> list[Tracker]:
        """Those that serve."""
        return [tracker for tracker in self.trackers if tracker.role != "consume"]

    @property
    def consumers(self) -> list[Tracker]:
        """Those that consume."""
        return [tracker for tracker in self.trackers if tracker.role != "serve"]

    @property
    def server(self) -> Tracker:
        """The only, or first, one that serves."""
        return self.servers[0]

    @property
    def consumer(self) -> Tracker:
        """The only, or first, one that consumes."""
        return self.consumers[0]

    @property
    def addresses(self) -> list[str]:
        """Of all servers."""
        return [server.address for server in self.servers]

    def migrate(self) -> None:
        """As `tracker_server migrate` does, without the time that a process takes to start."""
        store = open_store(Settings(database_url=self.settings["database_url"], broker_url="amqp://"), "tests")
        try:
            store.migrate()
        finally:
            store.close()

    def add(self, role: str, **settings: str) -> Tracker:
        """One more process, not started yet."""
        number = sum(tracker.role == role for tracker in self.trackers)
        log_path = self.directory / f"{role}-{number}.log"
        tracker = Tracker(role, {**self.environment, **_variables(settings)}, log_path)
        self.trackers.append(tracker)
        return tracker

    def start(self, servers: int = 1, consumers: int = 1) -> Self:
        """Starts everything and waits until it is of use."""
        roles = ["up"] if self.embedded else ["serve"] * servers + ["consume"] * consumers
        if not self.embedded:
            self.migrate()
        started = [self.add(role) for role in roles]
        for tracker in started:
            tracker.launch()
        for tracker in started:
            tracker.wait_ready()
        return self

    def stub(self, index: int = 0) -> rpc.TrackerServiceStub:
        """Talks to a server."""
        address = self.addresses[index]
        if address not in self._channels:
            self._channels[address] = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        return rpc.TrackerServiceStub(self._channels[address])

    def logs(self) -> Iterable[tuple[str, str]]:
        """The end of each process's log."""
        for tracker in self.trackers:
            if tracker.log_path.exists():
                lines = tracker.log_path.read_text(errors="replace").splitlines()
                yield tracker.log_path.name, "\n".join(lines[-LOG_TAIL:])

    def close(self) -> None:
        """Kills what still runs."""
        for channel in self._channels.values():
            channel.close()
        for tracker in self.trackers:
            tracker.kill()


def _variables(settings: dict[str, str]) -> dict[str, str]:
    return {f"TRACKER_{name.upper()}": value for name, value in settings.items()}
