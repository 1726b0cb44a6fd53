"""A client whose calls fail from some call on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock
from typing import TypeVar

from tests.importers.stub_client import StubClient
from tracker.v1 import tracker_service_pb2 as public

_A = TypeVar("_A")


class LostError(Exception):
    """As a client says that the server is out of reach."""

    code = "UNAVAILABLE"
    reason = ""


class FaultyClient:
    """Makes some writes, and no call after the next one: that one is made, or not, and its answer is lost."""

    def __init__(self, client: StubClient, writes: int, *, last_is_made: bool = False) -> None:
        self._client = client
        self._left = writes
        self._last_is_made = last_is_made
        self._lock = Lock()

    def start_run(self, request: public.StartRunRequest, *, timeout: float | None = None) -> public.StartRunResponse:
        """Counts."""
        return self._write(lambda: self._client.start_run(request, timeout=timeout))

    def log_metrics(
        self, request: public.LogMetricsRequest, *, timeout: float | None = None
    ) -> public.LogMetricsResponse:
        """Counts."""
        return self._write(lambda: self._client.log_metrics(request, timeout=timeout))

    def run_completed(
        self, request: public.RunCompletedRequest, *, timeout: float | None = None
    ) -> public.RunCompletedResponse:
        """Counts."""
        return self._write(lambda: self._client.run_completed(request, timeout=timeout))

    def close_writer(
        self, request: public.CloseWriterRequest, *, timeout: float | None = None
    ) -> public.CloseWriterResponse:
        """Counts."""
        return self._write(lambda: self._client.close_writer(request, timeout=timeout))

    def get_run(
        self, run_id: str, *, write_tokens: Iterable[str] = (), timeout: float | None = None
    ) -> public.GetRunResponse:
        """Does not count."""
        if self._left < 0:
            raise LostError
        return self._client.get_run(run_id, write_tokens=write_tokens, timeout=timeout)

    def _write(self, call: Callable[[], _A]) -> _A:
        with self._lock:
            self._left -= 1
            left = self._left
        if left < -1 or (left == -1 and not self._last_is_made):
            raise LostError
        answer = call()
        if left == -1:
            raise LostError
        return answer
