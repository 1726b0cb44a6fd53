"""What a server's simplest answer takes just now: the baseline for bounds in seconds, on a machine that others use too."""

from __future__ import annotations

import threading
import time
from typing import Self

import grpc

from tests.e2e.load import call
from tests.e2e.processes import CHANNEL_OPTIONS
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1 import tracker_service_pb2_grpc as rpc


class Pulse:
    """Asks a server for its version over and over, on a connection of its own. That takes no broker, cache or database."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self._asked_at: float | None = None
        self._slowest = 0.0
        self._thread = threading.Thread(target=self._ask, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    @property
    def slowest(self) -> float:
        """Seconds that its slowest answer took, or has taken so far."""
        asked_at = self._asked_at
        return max(self._slowest, 0.0 if asked_at is None else time.monotonic() - asked_at)

    def _ask(self) -> None:
        with grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS) as channel:
            stub = rpc.TrackerServiceStub(channel)
            while not self._stop.wait(0.02):
                self._asked_at = began = time.monotonic()
                call(stub.GetServerInfo, public.GetServerInfoRequest(), 60)
                self._slowest = max(self._slowest, time.monotonic() - began)
                self._asked_at = None
