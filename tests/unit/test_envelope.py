"""What comes from the queue is either a write that can be stored, or Undecodable with the reason. Nothing else."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from google.protobuf.message import Message

from tests.unit.envelopes import NOW_MS, PAYLOADS, good_write, log_metrics, run_completed, start_run, update_run
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server import limits
from tracker_server.envelope import VERSION, decode_write, read_envelope, wrap_write
from tracker_server.envelope_values import Undecodable
from tracker_server.model.writes import (
    CloseWriter,
    CompleteRun,
    Heartbeat,
    LogNext,
    LogPoints,
    MapChange,
    StartRun,
    UpdateExperiment,
    UpdateRun,
    Write,
)

LOG, START, COMPLETE, UPDATE = (
    internal.WRITE_KIND_LOG_METRICS,
    internal.WRITE_KIND_START_RUN,
    internal.WRITE_KIND_RUN_COMPLETED,
    internal.WRITE_KIND_UPDATE_RUN,
)


def read(body: bytes) -> list[Write]:
    return [decode_write(raw) for raw in read_envelope(body)]


# ---------------------------------------------------------------- what is right


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_write_of_each_kind_is_read(kind: int) -> None:
    bodies = {1: StartRun, 2: LogNext, 3: LogPoints, 4: CloseWriter, 5: CompleteRun, 6: Heartbeat, 7: UpdateRun}
    (write,) = read(wrap_write(good_write(kind, attempt=7, replay=True, server_assigned=True)))
    assert isinstance(write.body, bodies.get(kind, UpdateExperiment))
    assert (write.scope_id, write.writer_id, write.attempt) == ("r", "w" * 16, 7)
    assert (write.accepted_ms, write.replay, write.server_assigned) == (NOW_MS, True, True)
    assert write.sequence == (0 if kind in (4, 6) else 1)
    assert write.size == len(PAYLOADS[kind])


def test_points_are_read_as_they_were_sent() -> None:
    body = decode_write(good_write(LOG)).body
    assert isinstance(body, LogPoints)
    (block,) = body.blocks
    assert block.names == ("loss", "acc")
    assert block.steps.tolist() == [1, -(2**62)]
    assert block.times.tolist() == [NOW_MS, 0]
    assert repr(block.values.tolist()) == "[[0.5, nan], [-0.0, 1e+308]]"


def test_points_without_times_have_the_writes() -> None:
    request = log_metrics()
    request.blocks[0].ClearField("times_unix_ms")
    body = decode_write(good_write(LOG, request.SerializeToString())).body
    assert isinstance(body, LogPoints)
    assert body.blocks[0].times.tolist() == [NOW_MS, NOW_MS]


def test_a_void_write_brings_its_count() -> None:
    payload = public.LogMetricsRequest(run_id="r", dropped_points=5).SerializeToString()
    write = decode_write(good_write(LOG, payload))
    assert write.body == LogPoints((), 5)
    assert write.points == 0


@pytest.mark.parametrize("milliseconds", [limits.MIN_TIME_MS, -1, 0, 1, limits.MAX_TIME_MS])
def test_times_are_read_to_the_millisecond(milliseconds: int) -> None:
    request = start_run()
    request.timestamp.seconds, rest = divmod(milliseconds, 1000)
    request.timestamp.nanos = rest * 1_000_000 + 999_999
    body = decode_write(good_write(START, request.SerializeToString())).body
    assert isinstance(body, StartRun)
    assert body.started_ms == milliseconds


def test_a_mask_sets_removes_and_replaces() -> None:
    body = decode_write(good_write(UPDATE)).body
    assert isinstance(body, UpdateRun)
    assert body.fields == {"name": "n", "notes": ""}
    assert body.maps == {
        "config": MapChange(False, {"lr": 2**53 + 1}, ("gone",)),
        "tags": MapChange(True, {"t": True}),
    }


@pytest.mark.parametrize("paths", [["config", "config.gone"], ["config.gone", "config"]])
def test_a_whole_map_in_a_mask_outweighs_its_entries(paths: list[str]) -> None:
    request = update_run()
    request.update_mask.paths[:] = paths
    body = decode_write(good_write(UPDATE, request.SerializeToString())).body
    assert isinstance(body, UpdateRun)
    assert body.maps == {"config": MapChange(True, {"lr": 2**53 + 1})}


def test_without_a_mask_only_what_is_not_empty_is_taken() -> None:
    request = update_run()
    request.ClearField("update_mask")
    body = decode_write(good_write(UPDATE, request.SerializeToString())).body
    assert isinstance(body, UpdateRun)
    assert body.fields == {"name": "n"}
    assert body.maps == {"config": MapChange(set={"lr": 2**53 + 1}), "tags": MapChange(set={"t": True})}


def test_the_longest_name_is_taken() -> None:
    request = public.LogMetricRequest(name="𝄞" * 256, value=math.inf, step=2**63 - 1)
    body = decode_write(good_write(internal.WRITE_KIND_LOG_METRIC, request.SerializeToString())).body
    assert isinstance(body, LogPoints)
    assert body.blocks[0].steps.tolist() == [2**63 - 1]


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff", "not an envelope"),
        (b"", "envelope version 0"),
        (internal.Envelope(version=2, writes=[good_write(LOG)]).SerializeToString(), "envelope version 2"),
        (internal.Envelope(version=VERSION).SerializeToString(), "without writes"),
    ],
)
def test_a_message_that_cannot_be_read_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        read_envelope(body)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scope_id": ""}, "scope ''"),
        ({"scope_id": "a\0b"}, "scope"),
        ({"scope_id": "x" * 129}, "scope"),
        ({"writer_id": ""}, "writer ''"),
        ({"writer_id": "w\0" * 10}, "writer"),
        ({"writer_id": "w" * 129}, "writer"),
        ({"sequence": 0}, "sequence 0"),
        ({"sequence": -1}, "sequence -1"),
        ({"attempt": -1}, "attempt -1"),
        ({"accepted_at_unix_ms": limits.MIN_TIME_MS - 1}, "time"),
        ({"accepted_at_unix_ms": limits.MAX_TIME_MS + 1}, "time"),
    ],
)
@pytest.mark.parametrize("kind", [LOG, START])
def test_an_impossible_value_around_the_payload_is_named(kind: int, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode_write(good_write(kind, None, **changes))


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_payload_that_is_no_request_is_named(kind: int) -> None:
    with pytest.raises(Undecodable, match="payload"):
        decode_write(good_write(kind, b"\xff"))


@pytest.mark.parametrize("kind", [0, 16, 99])
def test_an_unknown_kind_of_write_is_named(kind: int) -> None:
    with pytest.raises(Undecodable, match=f"unknown kind of write: {kind}"):
        decode_write(good_write(kind, b""))


def packed(change: Callable[[internal.PackedBlock], object]) -> bytes:
    request = internal.PackedLogMetrics.FromString(PAYLOADS[LOG])
    change(request.blocks[0])
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b.ClearField("steps"), "an array in 0 parts"),
        (lambda b: b.steps.append(b"12345678"), "an array in 2 parts"),
        (lambda b: b.steps.__setitem__(0, b""), "a block without steps"),
        (lambda b: b.steps.__setitem__(0, b"1234567"), "payload"),
        (lambda b: b.times_unix_ms.__setitem__(0, b"1234567"), "payload"),
        (lambda b: b.times_unix_ms.__setitem__(0, bytes(8)), "1 times for 2 steps"),
        (lambda b: b.times_unix_ms.append(bytes(16)), "an array in 2 parts"),
        (lambda b: b.times_unix_ms.__setitem__(0, np.array([0, 2**62]).tobytes()), "time 4611686018427387904 ms"),
        (lambda b: b.times_unix_ms.__setitem__(0, np.array([0, -(2**62)]).tobytes()), "time -4611686018427387904"),
        (lambda b: b.ClearField("columns"), "a block without columns"),
        (lambda b: setattr(b.columns[0], "name", ""), "metric name ''"),
        (lambda b: setattr(b.columns[0], "name", "x" * 257), "metric name"),
        (lambda b: setattr(b.columns[0], "name", "a\0"), "metric name"),
        (lambda b: setattr(b.columns[0], "name", "acc"), "a metric twice in one block"),
        (lambda b: setattr(b.columns[0], "values", bytes(8)), "1 values of 'loss' for 2 steps"),
        (lambda b: setattr(b.columns[0], "values", bytes(24)), "3 values of 'loss' for 2 steps"),
        (lambda b: setattr(b.columns[1], "values", bytes(15)), "1.875 values of 'acc' for 2 steps"),
        (lambda b: b.columns[0].ClearField("values"), "0 values of 'loss' for 2 steps"),
    ],
)
def test_an_impossible_block_is_named(change: Callable[[internal.PackedBlock], object], reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode_write(good_write(LOG, packed(change)))


def changed(message: public.StartRunRequest, **changes: object) -> bytes:
    for name, value in changes.items():
        setattr(message, name, value)
    return payload_of(message)


def with_config(text: str, *, key: bool) -> bytes:
    request = start_run()
    if key:
        request.config.values["deep"].list_value.values.add().map_value.values[text].int_value = 1
    else:
        request.config.values["deep"].list_value.values.add().string_value = text
    return payload_of(request)


def completed(**maps: dict[str, object]) -> bytes:
    request = run_completed()
    for name, entries in maps.items():
        getattr(request, name).update(entries)
    return payload_of(request)


def masked(path: str) -> bytes:
    request = update_run()
    request.update_mask.paths.append(path)
    return payload_of(request)


def payload_of(request: Message) -> bytes:
    """With the entries of maps in order: payloads are part of the tests' names, on which all workers have to agree."""
    return request.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (START, changed(start_run(), name="\0"), "U\\+0000"),
        (START, changed(start_run(), experiment_id="e\0"), "experiment"),
        (START, changed(start_run(), experiment_id="e" * 129), "experiment"),
        (START, with_config("a\0", key=False), "U\\+0000"),
        (START, with_config("a\0", key=True), "U\\+0000"),
        (COMPLETE, completed(metadata={"a": "\0"}), "U\\+0000"),
        (COMPLETE, completed(artifacts={"\0": "a"}), "U\\+0000"),
        (COMPLETE, completed(final_metrics={"": 1.0}), "metric name ''"),
        (COMPLETE, completed(final_metrics={"x" * 257: 1.0}), "metric name"),
        (COMPLETE, completed(final_metrics={"a\0": 1.0}), "metric name"),
        (COMPLETE, public.RunCompletedRequest(status=1).SerializeToString(), "status 1"),  # type: ignore[arg-type]
        (COMPLETE, public.RunCompletedRequest(status=77).SerializeToString(), "status 77"),  # type: ignore[arg-type]
        (COMPLETE, public.RunCompletedRequest().SerializeToString(), "status 0"),
        (UPDATE, masked("status"), "update_mask path 'status'"),
        (UPDATE, masked("name.x"), "update_mask path 'name.x'"),
        (UPDATE, masked(""), "update_mask path ''"),
        (UPDATE, masked("config.\0"), "U\\+0000"),
        (LOG, public.LogMetricsRequest(dropped_points=-1).SerializeToString(), "dropped_points -1"),
        (internal.WRITE_KIND_LOG_METRIC, public.LogMetricRequest().SerializeToString(), "metric name ''"),
        (
            internal.WRITE_KIND_CLOSE_WRITER,
            public.CloseWriterRequest(last_sequence=-1).SerializeToString(),
            "last_sequence -1",
        ),
    ],
)
def test_an_impossible_value_in_the_payload_is_named(kind: int, payload: bytes, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode_write(good_write(kind, payload))


@pytest.mark.parametrize(("seconds", "nanos"), [(2**63 - 1, 0), (-(2**63), 0), (253_402_300_800, 0), (0, -(2**31))])
def test_an_impossible_timestamp_is_named_or_taken_for_what_it_says(seconds: int, nanos: int) -> None:
    request = start_run()
    request.timestamp.seconds, request.timestamp.nanos = seconds, nanos
    raw = good_write(START, request.SerializeToString())
    if abs(seconds) > 1:
        with pytest.raises(Undecodable, match="time"):
            decode_write(raw)
    else:
        assert decode_write(raw).body.started_ms == -2148  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["RUN", "EXPERIMENT"])
def test_of_deletion_and_restoration_callers_say_which_was_later_and_the_server_how_long_ago(kind: str) -> None:
    """A caller's clock may hide or show something, and never has it purged early."""
    changes = []
    for verb in ("DELETE", "UNDELETE"):
        number = internal.WriteKind.Value(f"WRITE_KIND_{verb}_{kind}")
        request = getattr(public, f"{verb.capitalize()}{kind.capitalize()}Request")()
        request.timestamp.FromMilliseconds(7_000)
        body = decode_write(good_write(number, payload=request.SerializeToString())).body
        assert isinstance(body, UpdateRun | UpdateExperiment)
        changes.append((body.changed_ms, body.fields))
    assert changes == [(7_000, {"deleted_ms": NOW_MS}), (7_000, {"deleted_ms": None})]
