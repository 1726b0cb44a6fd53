"""How requests become writes."""

from __future__ import annotations

import copy
import time

import pytest

from tests.good_requests import GOOD, WRITER
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import MetricBlock
from tracker_server.envelope import decode_write
from tracker_server.identity import Identity, WriteRequest
from tracker_server.ids import ID

NOW = 1_700_000_000_123
KINDS = {
    "StartRun": internal.WRITE_KIND_START_RUN,
    "LogMetric": internal.WRITE_KIND_LOG_METRIC,
    "LogMetrics": internal.WRITE_KIND_LOG_METRICS,
    "CloseWriter": internal.WRITE_KIND_CLOSE_WRITER,
    "RunCompleted": internal.WRITE_KIND_RUN_COMPLETED,
    "Heartbeat": internal.WRITE_KIND_HEARTBEAT,
    "UpdateRun": internal.WRITE_KIND_UPDATE_RUN,
    "UpdateExperiment": internal.WRITE_KIND_UPDATE_EXPERIMENT,
    "RewindRun": internal.WRITE_KIND_REWIND_RUN,
    "StopRun": internal.WRITE_KIND_STOP_RUN,
    "DeleteRun": internal.WRITE_KIND_DELETE_RUN,
    "UndeleteRun": internal.WRITE_KIND_UNDELETE_RUN,
    "DeleteExperiment": internal.WRITE_KIND_DELETE_EXPERIMENT,
    "UndeleteExperiment": internal.WRITE_KIND_UNDELETE_EXPERIMENT,
}
UNNUMBERED = ("CloseWriter", "Heartbeat")


@pytest.fixture
def identity() -> Identity:
    return Identity(lambda: NOW)


def good(rpc: str) -> WriteRequest:
    request = copy.deepcopy(GOOD[rpc])
    assert isinstance(request, WriteRequest)
    return request


@pytest.mark.parametrize("rpc", KINDS)
def test_a_write_says_what_the_request_says(identity: Identity, rpc: str) -> None:
    request = good(rpc)
    write = identity.stamp(request)
    assert write.kind == KINDS[rpc]
    assert write.scope_id == ("experiment" if rpc.endswith("Experiment") else "run")
    assert write.accepted_at_unix_ms == NOW
    assert write.attempt == getattr(request, "attempt", 0)
    assert not write.server_assigned
    assert type(request).FromString(write.payload) == request
    assert write.writer_id == ("" if rpc == "Heartbeat" else WRITER)
    assert write.sequence == (0 if rpc in UNNUMBERED else 1)
    decode_write(write)


@pytest.mark.parametrize("rpc", [rpc for rpc in KINDS if "replay" in GOOD[rpc].DESCRIPTOR.fields_by_name])
def test_a_replay_says_so(identity: Identity, rpc: str) -> None:
    request = good(rpc)
    assert not identity.stamp(request).replay
    request.replay = True  # type: ignore[union-attr]  # chosen for having it
    assert identity.stamp(request).replay


def test_every_write_of_the_service_has_a_kind() -> None:
    assert set(KINDS.values()) == set(internal.WriteKind.values()) - {
        internal.WRITE_KIND_UNSPECIFIED,
        # The server's own.
        internal.WRITE_KIND_LEASE_MARKER,
    }


@pytest.mark.parametrize("rpc", [rpc for rpc in KINDS if rpc not in UNNUMBERED])
def test_a_caller_without_a_pair_gets_the_servers(identity: Identity, rpc: str) -> None:
    writes = []
    for _ in range(3):
        request = good(rpc)
        request.ClearField("writer_id")  # type: ignore[arg-type]  # chosen for having it
        request.ClearField("sequence")  # type: ignore[arg-type]  # likewise
        writes.append(identity.stamp(request))
    assert [write.sequence for write in writes] == [1, 2, 3]
    assert all(write.server_assigned for write in writes)
    assert len({write.writer_id for write in writes}) == 1
    assert len(writes[0].writer_id) == 32


def test_the_server_counts_each_scope_by_itself(identity: Identity) -> None:
    def log(run_id: str) -> int:
        return identity.stamp(public.LogMetricRequest(run_id=run_id, name="m")).sequence

    assert [log("a"), log("b"), log("a"), log("b")] == [1, 1, 2, 2]
    assert identity.stamp(public.UpdateExperimentRequest(experiment_id="a")).sequence == 1


def test_a_caller_with_a_pair_uses_up_none_of_the_servers(identity: Identity) -> None:
    identity.stamp(good("LogMetric"))
    assert identity.stamp(public.LogMetricRequest(run_id="run", name="m")).sequence == 1


def test_two_servers_never_share_a_name() -> None:
    request = public.LogMetricRequest(run_id="run", name="m")
    assert Identity().stamp(request).writer_id != Identity().stamp(request).writer_id


def test_what_is_forgotten_is_never_counted_again_under_the_same_name() -> None:
    identity = Identity(max_remembered_scopes=3)
    seen = set()
    for number in [0, 0, 1, 2, 0, 3, 0, 1, 2, 3, 4, 0]:
        write = identity.stamp(public.LogMetricRequest(run_id=f"run-{number}", name="m"))
        pair = (write.scope_id, write.writer_id, write.sequence)
        assert pair not in seen
        seen.add(pair)
    assert len({writer for _, writer, _ in seen}) == 4


def test_a_start_without_a_run_id_gets_one(identity: Identity) -> None:
    first, second = public.StartRunRequest(), public.StartRunRequest()
    write = identity.stamp(first)
    identity.stamp(second)
    assert ID.fullmatch(first.run_id)
    assert first.run_id != second.run_id
    assert write.scope_id == first.run_id
    assert public.StartRunRequest.FromString(write.payload).run_id == first.run_id


def test_the_payload_is_canonical_however_the_request_was_encoded(identity: Identity) -> None:
    def field(number: int, wire_type: int, body: bytes) -> bytes:
        return bytes([number << 3 | wire_type]) + body

    def text(body: bytes) -> bytes:
        return bytes([len(body)]) + body

    one, two = (value.to_bytes(8, "little") for value in (1, 2))
    split_and_unpacked = field(1, 2, text(one)) + field(1, 1, two)
    column = field(2, 1, one) + field(1, 2, text(b"m")) + field(2, 2, text(two)) + field(15, 0, b"\x07")
    block = split_and_unpacked + field(3, 2, text(column)) + field(15, 2, text(b"unknown"))
    body = field(15, 0, b"\x01") + field(5, 2, text(block)) + field(1, 2, text(b"old")) + field(1, 2, text(b"run"))
    write = identity.stamp(public.LogMetricsRequest.FromString(body))
    (packed,) = internal.PackedLogMetrics.FromString(write.payload).blocks
    assert list(packed.steps) == [one + two]
    assert packed.columns[0].values == one + two
    assert MetricBlock.FromString(packed.SerializeToString()).steps == [1, 2]
    assert write.scope_id == "run"
    decode_write(write)


def test_the_clock_is_the_wall_clock_in_milliseconds() -> None:
    before = time.time() * 1000
    stamped = Identity().stamp(good("LogMetric")).accepted_at_unix_ms
    assert before - 1 <= stamped <= time.time() * 1000
