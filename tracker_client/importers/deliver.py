"""Sends one run: skips what is there, keeps several calls in flight, and ends with its writer closed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Protocol

from tracker.v1.tracker_service_pb2 import (
    CloseWriterRequest,
    CloseWriterResponse,
    GetRunResponse,
    LogMetricsRequest,
    LogMetricsResponse,
    RunCompletedRequest,
    RunCompletedResponse,
    StartRunRequest,
    StartRunResponse,
)
from tracker_client.importers.earlier_import import ATTEMPT_KEY, CONTENT_KEY, ImportPlan, leftovers, plan_import
from tracker_client.importers.identity import changed_ms, content_of, stamp_of
from tracker_client.importers.records import Problem, Record, RunSource
from tracker_client.importers.report import Outcome, Tally
from tracker_client.importers.requests import Experiments, Request, Writer, make_requests

IN_FLIGHT = 4
"""Calls of one run at a time, each of at most 1 MiB."""
VISIBLE_SECONDS = 60.0
"""How long to wait for the consumers to apply what this run rests upon."""
_MAX_TOKENS = 100


class ImportClient(Protocol):
    """What an import needs of a client. Errors have the attributes of `tracker_client.errors.TrackerError`."""

    def start_run(self, request: StartRunRequest, *, timeout: float | None = None) -> StartRunResponse: ...

    def log_metrics(self, request: LogMetricsRequest, *, timeout: float | None = None) -> LogMetricsResponse: ...

    def run_completed(self, request: RunCompletedRequest, *, timeout: float | None = None) -> RunCompletedResponse: ...

    def close_writer(self, request: CloseWriterRequest, *, timeout: float | None = None) -> CloseWriterResponse: ...

    def get_run(
        self, run_id: str, *, write_tokens: Iterable[str] = (), timeout: float | None = None
    ) -> GetRunResponse: ...


class Cancelled(Exception):
    """Another source's import met an error that ends all of them."""


@dataclass(slots=True)
class Delivery:
    """What all runs of an import share."""

    client: ImportClient
    calls: Executor
    """Runs the calls. Not the executor that the runs themselves are in."""
    cancelled: Event
    on_points: Callable[[str, int], None]
    """Called with a source's path and the number of points that were acknowledged."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a run."""

    outcome: Outcome
    skipped: int = 0
    """Requests that had arrived earlier."""


def deliver(
    delivery: Delivery,
    source: RunSource,
    read: Callable[[], Iterator[Record]],
    experiments: Experiments,
    tally: Tally,
) -> Delivered:
    """Brings a run in.

    Raises what the client raises, ReadError, OSError and Cancelled. Done again it goes on where it ended.
    """
    stamp, content = stamp_of(source), content_of(source)
    run = find_run(delivery.client, source.run_id)
    tally.experiment_id = "" if run is None else run.run.experiment_id
    plan = plan_import(source.key, content, changed_ms(source), run)
    if plan.done:
        _tell_refused(plan, tally)
        return Delivered(Outcome.ALREADY_THERE)
    if plan.replaces is not None:
        _close_earlier(delivery.client, source.run_id, plan)
    writer = Writer(
        run_id=source.run_id,
        experiments=experiments,
        is_new=run is None,
        name=source.name,
        writer_id=plan.writer_id,
        attempt=plan.attempt,
        metadata={
            "import.format": source.format,
            "import.source": str(source.path),
            CONTENT_KEY: content,
            ATTEMPT_KEY: str(plan.attempt),
        },
    )
    requests = make_requests(read(), writer, tally)
    _start(delivery.client, next(requests), plan)
    sender = _Sender(delivery, plan, source)
    for request in requests:
        sender.send(request)
    sender.close()
    if stamp_of(source) != stamp:
        what = "was written to while it was read; import it again once it is finished"
        tally.tell([Problem(str(source.path), what)])
    if plan.changed:
        sender.tell_leftovers(tally)
    if plan.arrived is not None:
        return Delivered(Outcome.RESUMED, sender.skipped)
    return Delivered(Outcome.UPDATED if plan.changed else Outcome.IMPORTED)


def find_run(client: ImportClient, run_id: str) -> GetRunResponse | None:
    """A run; None when there is none of that id."""
    try:
        return client.get_run(run_id)
    except Exception as error:
        if getattr(error, "reason", "") == "RUN_NOT_FOUND":
            return None
        raise


def _start(client: ImportClient, request: Request, plan: ImportPlan) -> None:
    """Sends the start and waits until it can be read, before any point: it says which attempt this content is, and an
    import that goes on with this one must find it.
    """
    assert isinstance(request, StartRunRequest)
    if not plan.has(request.sequence):
        token = client.start_run(request).write_token
        client.get_run(request.run_id, write_tokens=(token,), timeout=VISIBLE_SECONDS)


def _close_earlier(client: ImportClient, run_id: str, plan: ImportPlan) -> None:
    """Fills the holes of an import that never ended and closes its writer: its points are replaced, and a run is
    complete only when each of its writers is.
    """
    state = plan.replaces
    assert state is not None
    common: dict[str, Any] = {"run_id": run_id, "writer_id": state.writer_id, "attempt": plan.replaces_attempt}
    for gap in state.missing:
        for sequence in range(gap.first, gap.last + 1):
            client.log_metrics(LogMetricsRequest(sequence=sequence, replay=True, **common))
    client.close_writer(CloseWriterRequest(last_sequence=state.last_sequence, replay=True, **common))


def _tell_refused(plan: ImportPlan, tally: Tally) -> None:
    refused = 0 if plan.arrived is None else sum(gap.last - gap.first + 1 for gap in plan.arrived.refused)
    if refused:
        what = f"{refused} requests of it could not be stored; the operator finds them in the dead-letter queue"
        tally.tell([Problem(tally.path, what)])


@dataclass(slots=True)
class _Sender:
    """Sends a run's requests after the first, a few at a time."""

    delivery: Delivery
    plan: ImportPlan
    source: RunSource
    skipped: int = 0
    _last_sequence: int = 1
    _flying: deque[tuple[Future[Any], int]] = field(default_factory=deque)
    _tokens: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_TOKENS))

    def send(self, request: Request) -> None:
        """Returns as soon as the call is under way; waits for the oldest one when there are too many."""
        self._last_sequence = request.sequence
        if self.plan.has(request.sequence):
            self.skipped += 1
            return
        if self.delivery.cancelled.is_set():
            self._drop()
            raise Cancelled
        if len(self._flying) >= IN_FLIGHT:
            self._land()
        points = 0
        if isinstance(request, LogMetricsRequest):
            points = sum(len(block.steps) * len(block.columns) for block in request.blocks)
        self._flying.append((self.delivery.calls.submit(self._call, request), points))

    def close(self) -> None:
        """Waits for all calls, then closes the writer."""
        while self._flying:
            self._land()
        request = CloseWriterRequest(
            run_id=self.source.run_id,
            writer_id=self.plan.writer_id,
            last_sequence=self._last_sequence,
            attempt=self.plan.attempt,
            replay=True,
        )
        self._tokens.append(self.delivery.client.close_writer(request).write_token)

    def tell_leftovers(self, tally: Tally) -> None:
        """Compares what the run shows now with what was sent."""
        tokens = tuple(self._tokens)
        run = self.delivery.client.get_run(self.source.run_id, write_tokens=tokens, timeout=VISIBLE_SECONDS)
        for name, count in leftovers(run, tally.counts, self.plan.attempt):
            what = (
                f"{count} points of the earlier import stay: they lie before the first step that the source has of it "
                "now, or it has none any more"
            )
            tally.tell([Problem(tally.path, what, f"metric {name!r}")])

    def _call(self, request: Request) -> str:
        client = self.delivery.client
        if isinstance(request, LogMetricsRequest):
            return client.log_metrics(request).write_token
        if isinstance(request, StartRunRequest):
            return client.start_run(request).write_token
        return client.run_completed(request).write_token

    def _land(self) -> None:
        future, points = self._flying.popleft()
        try:
            self._tokens.append(future.result())
        except BaseException:
            self._drop()
            raise
        self.delivery.on_points(str(self.source.path), points)

    def _drop(self) -> None:
        """Calls that have not begun are not made; the others end by themselves."""
        for future, _ in self._flying:
            future.cancel()
        self._flying.clear()
