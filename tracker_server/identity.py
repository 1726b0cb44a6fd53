"""Turns a checked request into a write with an identity: whose it is, its number, its attempt, when it was accepted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from google.protobuf.message import Message

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server.ids import new_id

WriteRequest: TypeAlias = (
    public.StartRunRequest
    | public.LogMetricRequest
    | public.LogMetricsRequest
    | public.CloseWriterRequest
    | public.RunCompletedRequest
    | public.HeartbeatRequest
    | public.UpdateRunRequest
    | public.UpdateExperimentRequest
    | public.RewindRunRequest
    | public.StopRunRequest
    | public.DeleteRunRequest
    | public.UndeleteRunRequest
    | public.DeleteExperimentRequest
    | public.UndeleteExperimentRequest
)
"""A request that changes something."""

MAX_REMEMBERED_SCOPES: Final = 100_000
"""Runs and experiments whose last sequence is remembered: some 15 MB."""


def wall_clock_ms() -> int:
    """Now, in milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


class Identity:
    """Stamps writes. One per server process; all calls on one thread, none waits."""

    def __init__(
        self, now_ms: Callable[[], int] = wall_clock_ms, max_remembered_scopes: int = MAX_REMEMBERED_SCOPES
    ) -> None:
        self._now_ms = now_ms
        self._max_remembered_scopes = max_remembered_scopes
        self._incarnation = new_id()
        self._last_sequences: dict[str, int] = {}

    def stamp(self, request: WriteRequest) -> internal.Write:
        """The write that the request asks for.

        A StartRun without a run id gets one, a RewindRun without an attempt the present time, in the request too.

        The request must have been validated. Its encoding, made anew, is canonical: arrays packed, in one piece.
        """
        shape = _SHAPES[type(request)]
        if shape.makes_run_id and not request.run_id:  # type: ignore[union-attr]  # the shape says that it has one
            request.run_id = new_id()  # type: ignore[union-attr]  # likewise
        now_ms = self._now_ms()
        if shape.makes_attempt and not request.attempt:  # type: ignore[union-attr]  # likewise
            request.attempt = now_ms  # type: ignore[union-attr]  # likewise
        scope_id: str = getattr(request, shape.scope)
        write = internal.Write(
            kind=shape.kind, scope_id=scope_id, accepted_at_unix_ms=now_ms, payload=request.SerializeToString()
        )
        if shape.has_attempt:
            write.attempt = request.attempt  # type: ignore[union-attr]  # the shape says that it has one
        if shape.has_replay:
            write.replay = request.replay  # type: ignore[union-attr]  # likewise
        if shape.has_writer:
            write.writer_id = request.writer_id  # type: ignore[union-attr]  # likewise
        if shape.has_sequence and not write.writer_id:
            write.server_assigned = True
            write.sequence = self._next_sequence(shape.scope_prefix + scope_id)
            write.writer_id = self._incarnation
        elif shape.has_sequence:
            write.sequence = request.sequence  # type: ignore[union-attr]  # likewise
        return write

    def _next_sequence(self, key: str) -> int:
        last = self._last_sequences
        if key not in last and len(last) >= self._max_remembered_scopes:
            # A count that was forgotten must not start again under the same name.
            last.clear()
            self._incarnation = new_id()
        sequence = last.get(key, 0) + 1
        last[key] = sequence
        return sequence


@dataclass(frozen=True, slots=True)
class _Shape:
    """What stamping must know of a request's type."""

    kind: internal.WriteKind.ValueType
    scope: str
    scope_prefix: str
    makes_run_id: bool
    makes_attempt: bool
    has_attempt: bool
    has_replay: bool
    has_writer: bool
    has_sequence: bool


def _shape(kind: internal.WriteKind.ValueType, request: type[Message]) -> _Shape:
    fields = request.DESCRIPTOR.fields_by_name
    is_run = "run_id" in fields
    return _Shape(
        kind,
        "run_id" if is_run else "experiment_id",
        "" if is_run else "/",  # outside the alphabet of ids, so that a run and an experiment of one name count apart
        request is public.StartRunRequest,
        request is public.RewindRunRequest,
        "attempt" in fields,
        "replay" in fields,
        "writer_id" in fields,
        "sequence" in fields,
    )


_SHAPES: Final[dict[type[Message], _Shape]] = {
    request: _shape(kind, request)
    for request, kind in {
        public.StartRunRequest: internal.WRITE_KIND_START_RUN,
        public.LogMetricRequest: internal.WRITE_KIND_LOG_METRIC,
        public.LogMetricsRequest: internal.WRITE_KIND_LOG_METRICS,
        public.CloseWriterRequest: internal.WRITE_KIND_CLOSE_WRITER,
        public.RunCompletedRequest: internal.WRITE_KIND_RUN_COMPLETED,
        public.HeartbeatRequest: internal.WRITE_KIND_HEARTBEAT,
        public.UpdateRunRequest: internal.WRITE_KIND_UPDATE_RUN,
        public.UpdateExperimentRequest: internal.WRITE_KIND_UPDATE_EXPERIMENT,
        public.RewindRunRequest: internal.WRITE_KIND_REWIND_RUN,
        public.StopRunRequest: internal.WRITE_KIND_STOP_RUN,
        public.DeleteRunRequest: internal.WRITE_KIND_DELETE_RUN,
        public.UndeleteRunRequest: internal.WRITE_KIND_UNDELETE_RUN,
        public.DeleteExperimentRequest: internal.WRITE_KIND_DELETE_EXPERIMENT,
        public.UndeleteExperimentRequest: internal.WRITE_KIND_UNDELETE_EXPERIMENT,
    }.items()
}
