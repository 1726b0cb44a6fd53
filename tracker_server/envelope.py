"""From the bytes of a broker message to writes. Whatever cannot be read says why; it never raises anything else."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from google.protobuf.message import DecodeError

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server import limits
from tracker_server.envelope_values import (
    Undecodable,
    changes_of,
    check,
    check_id,
    check_name,
    check_texts,
    check_time,
    config_of,
    definition_of,
    retention_of,
    the_one,
    time_of,
)
from tracker_server.model import writes
from tracker_server.model.points import Block
from tracker_server.model.status import TERMINAL
from tracker_server.model.typed_json import Json

VERSION = 1
"""The envelope version that this code writes, and the only one it reads."""


def read_envelope(body: bytes) -> list[internal.Write]:
    """The writes of a message, still encoded. Raises Undecodable."""
    try:
        envelope = internal.Envelope.FromString(body)
    except DecodeError as error:
        message = f"not an envelope: {error}"
        raise Undecodable(message) from error
    if envelope.version != VERSION:
        message = f"envelope version {envelope.version}; this consumer reads version {VERSION}"
        raise Undecodable(message)
    if not envelope.writes:
        message = "an envelope without writes"
        raise Undecodable(message)
    return list(envelope.writes)


def wrap_write(write: internal.Write) -> bytes:
    """A message with this one write."""
    return internal.Envelope(version=VERSION, writes=[write]).SerializeToString()


def decode_write(raw: internal.Write) -> writes.Write:
    """A write, checked as far as storing it depends on it. Raises Undecodable with the reason."""
    decoder = _DECODERS.get(raw.kind)
    if decoder is None:
        message = f"unknown kind of write: {raw.kind}"
        raise Undecodable(message)
    check_id("scope", raw.scope_id)
    unnumbered = raw.kind in _UNNUMBERED
    check(unnumbered or raw.sequence >= 1, f"sequence {raw.sequence}")
    if raw.kind not in _ANONYMOUS:
        check_id("writer", raw.writer_id)
    check(raw.attempt >= 0, f"attempt {raw.attempt}")
    check_time(raw.accepted_at_unix_ms)
    try:
        body = decoder(raw)
    except (DecodeError, ValueError, OverflowError) as error:
        message = f"payload: {error}"
        raise Undecodable(message) from error
    return writes.Write(
        raw.scope_id,
        raw.writer_id,
        0 if unnumbered else raw.sequence,
        raw.attempt,
        raw.accepted_at_unix_ms,
        raw.replay,
        raw.server_assigned,
        body,
        len(raw.payload),
    )


def is_from_outside(raw: internal.Write) -> bool:
    """Whether somebody else than the run says it. The run's own client names its attempt when it updates it."""
    return raw.kind in _FROM_OUTSIDE or (raw.kind == internal.WRITE_KIND_UPDATE_RUN and raw.attempt == 0)


def _log_metrics(raw: internal.Write) -> writes.LogPoints:
    request = internal.PackedLogMetrics.FromString(raw.payload)
    check(request.dropped_points >= 0, f"dropped_points {request.dropped_points}")
    return writes.LogPoints(
        tuple(_block(block, raw.accepted_at_unix_ms) for block in request.blocks), request.dropped_points
    )


def _block(packed: internal.PackedBlock, accepted_ms: int) -> Block:
    steps = np.frombuffer(the_one(packed.steps), "<i8")
    count = len(steps)
    check(count > 0, "a block without steps")
    if packed.times_unix_ms:
        times = np.frombuffer(the_one(packed.times_unix_ms), "<i8")
        check(len(times) == count, f"{len(times)} times for {count} steps")
        check_time(int(times.min()))
        check_time(int(times.max()))
    else:
        times = np.full(count, accepted_ms, np.int64)
    columns = packed.columns
    check(bool(columns), "a block without columns")
    names = _known_names(tuple([column.name for column in columns]))
    parts = [column.values for column in columns]
    if set(map(len, parts)) != {8 * count}:
        uneven = next(i for i, part in enumerate(parts) if len(part) != 8 * count)
        message = f"{len(parts[uneven]) / 8:g} values of {names[uneven]!r} for {count} steps"
        raise Undecodable(message)
    values = np.frombuffer(b"".join(parts), "<f8").reshape(len(names), count)
    return Block(names, steps, times, values)


@lru_cache(maxsize=1024)
def _known_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Checks the names of a block's columns. Jobs send the same ones again and again: they are checked, and kept, once."""
    check(len(set(names)) == len(names), "a metric twice in one block")
    for name in names:
        check_name(name)
    return names


def _log_metric(raw: internal.Write) -> writes.LogPoints | writes.LogNext:
    request = public.LogMetricRequest.FromString(raw.payload)
    check_name(request.name)
    time = time_of(request, raw)
    if not request.HasField("step"):
        return writes.LogNext(request.name, time, request.value)
    block = Block(
        (request.name,), np.array([request.step], np.int64), np.array([time], np.int64), np.array([[request.value]])
    )
    return writes.LogPoints((block,))


def _start_run(raw: internal.Write) -> writes.StartRun:
    request = public.StartRunRequest.FromString(raw.payload)
    check_id("experiment", request.experiment_id, optional=True)
    check_id("parent", request.parent_run_id, optional=True)
    check_texts([request.name, request.group, *request.tags], request.metadata)
    return writes.StartRun(
        time_of(request, raw),
        request.experiment_id,
        request.name,
        config_of(request.config),
        tuple(request.tags),
        dict(request.metadata),
        request.parent_run_id,
        request.group,
    )


def _run_completed(raw: internal.Write) -> writes.CompleteRun:
    request = public.RunCompletedRequest.FromString(raw.payload)
    check(int(request.status) in TERMINAL, f"status {request.status}")
    check_id("experiment", request.experiment_id, optional=True)
    for name in request.final_metrics:
        check_name(name)
    check_texts([request.reason], request.artifacts, request.metadata)
    return writes.CompleteRun(
        time_of(request, raw),
        request.experiment_id,
        request.status,
        dict(request.final_metrics),
        dict(request.artifacts),
        dict(request.metadata),
        request.reason,
    )


def _close_writer(raw: internal.Write) -> writes.CloseWriter:
    request = public.CloseWriterRequest.FromString(raw.payload)
    check(request.last_sequence >= 0, f"last_sequence {request.last_sequence}")
    return writes.CloseWriter(request.last_sequence)


def _heartbeat(raw: internal.Write) -> writes.Heartbeat:
    public.HeartbeatRequest.FromString(raw.payload)
    return writes.Heartbeat()


def _update_run(raw: internal.Write) -> writes.UpdateRun:
    request = public.UpdateRunRequest.FromString(raw.payload)
    changes = request.changes
    check_id("parent", changes.parent_run_id, optional=True)
    check_texts([changes.name, changes.notes, changes.group, *changes.tags], changes.metadata, changes.artifacts)
    fields, maps = changes_of(
        list(request.update_mask.paths),
        {
            "name": changes.name,
            "notes": changes.notes,
            "stop_requested": changes.stop_requested,
            "parent_run_id": changes.parent_run_id,
            "group": changes.group,
        },
        {
            "tags": dict.fromkeys(changes.tags, True),
            "config": config_of(changes.config),
            "metadata": dict(changes.metadata),
            "artifacts": dict(changes.artifacts),
        },
    )
    if "group" in fields:
        fields["run_group"] = fields.pop("group")
    return writes.UpdateRun(time_of(request, raw), fields, maps, from_outside=is_from_outside(raw))


def _rewind_run(raw: internal.Write) -> writes.RewindRun:
    request = public.RewindRunRequest.FromString(raw.payload)
    check(request.step < limits.MAX_STEP, f"step {request.step}")
    check(raw.attempt >= 1, f"attempt {raw.attempt}")
    return writes.RewindRun(time_of(request, raw), request.step + 1)


def _stop_run(raw: internal.Write) -> writes.UpdateRun:
    request = public.StopRunRequest.FromString(raw.payload)
    check_texts([request.reason])
    fields: dict[str, Json] = {
        "stop_requested": not request.withdraw,
        "stop_reason": "" if request.withdraw else request.reason,
    }
    return writes.UpdateRun(time_of(request, raw), fields, {}, from_outside=True)


def _delete_run(raw: internal.Write) -> writes.UpdateRun:
    time = time_of(public.DeleteRunRequest.FromString(raw.payload), raw)
    # What may be purged and when is not for callers' clocks to say.
    return writes.UpdateRun(time, {"deleted_ms": raw.accepted_at_unix_ms}, {}, from_outside=True)


def _undelete_run(raw: internal.Write) -> writes.UpdateRun:
    time = time_of(public.UndeleteRunRequest.FromString(raw.payload), raw)
    return writes.UpdateRun(time, {"deleted_ms": None}, {}, from_outside=True)


def _update_experiment(raw: internal.Write) -> writes.UpdateExperiment:
    request = public.UpdateExperimentRequest.FromString(raw.payload)
    changes = request.changes
    check_texts([changes.name, changes.notes, *changes.tags], changes.metadata)
    definitions = {definition.name: definition_of(definition) for definition in changes.metric_definitions}
    fields, maps = changes_of(
        list(request.update_mask.paths),
        {"name": changes.name, "notes": changes.notes, "retention": retention_of(changes.retention)},
        {
            "tags": dict.fromkeys(changes.tags, True),
            "metadata": dict(changes.metadata),
            "metric_definitions": definitions,
        },
    )
    return writes.UpdateExperiment(time_of(request, raw), fields, maps)


def _delete_experiment(raw: internal.Write) -> writes.UpdateExperiment:
    time = time_of(public.DeleteExperimentRequest.FromString(raw.payload), raw)
    return writes.UpdateExperiment(time, {"deleted_ms": raw.accepted_at_unix_ms}, {})


def _undelete_experiment(raw: internal.Write) -> writes.UpdateExperiment:
    time = time_of(public.UndeleteExperimentRequest.FromString(raw.payload), raw)
    return writes.UpdateExperiment(time, {"deleted_ms": None}, {})


def _lease_marker(raw: internal.Write) -> writes.LeaseMarker:
    marker = internal.LeaseMarker.FromString(raw.payload)
    check_id("server", marker.server_id)
    check(marker.partition >= 0, f"partition {marker.partition}")
    return writes.LeaseMarker(marker.server_id, marker.partition, marker.interrupted)


_DECODERS: dict[int, Callable[[internal.Write], writes.Body]] = {
    internal.WRITE_KIND_START_RUN: _start_run,
    internal.WRITE_KIND_LOG_METRIC: _log_metric,
    internal.WRITE_KIND_LOG_METRICS: _log_metrics,
    internal.WRITE_KIND_CLOSE_WRITER: _close_writer,
    internal.WRITE_KIND_RUN_COMPLETED: _run_completed,
    internal.WRITE_KIND_HEARTBEAT: _heartbeat,
    internal.WRITE_KIND_UPDATE_RUN: _update_run,
    internal.WRITE_KIND_UPDATE_EXPERIMENT: _update_experiment,
    internal.WRITE_KIND_REWIND_RUN: _rewind_run,
    internal.WRITE_KIND_STOP_RUN: _stop_run,
    internal.WRITE_KIND_DELETE_RUN: _delete_run,
    internal.WRITE_KIND_UNDELETE_RUN: _undelete_run,
    internal.WRITE_KIND_DELETE_EXPERIMENT: _delete_experiment,
    internal.WRITE_KIND_UNDELETE_EXPERIMENT: _undelete_experiment,
    internal.WRITE_KIND_LEASE_MARKER: _lease_marker,
}
OF_EXPERIMENTS = frozenset(
    {
        internal.WRITE_KIND_UPDATE_EXPERIMENT,
        internal.WRITE_KIND_DELETE_EXPERIMENT,
        internal.WRITE_KIND_UNDELETE_EXPERIMENT,
    }
)
"""Kinds of writes whose scope is an experiment."""
_FROM_OUTSIDE = frozenset(
    {internal.WRITE_KIND_STOP_RUN, internal.WRITE_KIND_DELETE_RUN, internal.WRITE_KIND_UNDELETE_RUN}
)
_ANONYMOUS = frozenset({internal.WRITE_KIND_HEARTBEAT, internal.WRITE_KIND_LEASE_MARKER})
_UNNUMBERED = frozenset({*_ANONYMOUS, internal.WRITE_KIND_CLOSE_WRITER})
