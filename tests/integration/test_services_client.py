"""TrackerClient and AsyncTrackerClient against a real embedded server: every call, pages, histories, errors."""

from __future__ import annotations

import math
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from examples.embedded import embedded_server
from tests.both_clients import KINDS, Caller, calling
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as messages
from tracker.v1.resources_pb2 import MetricBlock, MetricColumn, RunStatus
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_client import errors
from tracker_client.aio import AsyncTrackerClient
from tracker_client.channel import open_channel
from tracker_client.client import TrackerClient
from tracker_client.endpoint import endpoint
from tracker_client.settings import BadSetting
from tracker_server import tokens

_VALUES = [0.5, math.nan, math.inf, -math.inf, -0.0]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of an embedded server."""
    with embedded_server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(params=KINDS)
async def caller(request: pytest.FixtureRequest, address: str) -> AsyncIterator[Caller]:
    """A client of the embedded server."""
    async with calling(request.param, address) as caller:
        yield caller


def _new_id() -> str:
    return f"x-{uuid.uuid4()}"


def _points(run_id: str, names: list[str], steps: range, writer_id: str = "", sequence: int = 0) -> Any:
    columns = [MetricColumn(name=name, values=[step / 2 for step in steps]) for name in names]
    block = MetricBlock(steps=steps, columns=columns)
    return messages.LogMetricsRequest(run_id=run_id, blocks=[block], writer_id=writer_id, sequence=sequence)


async def test_every_call(caller: Caller) -> None:
    run_id, experiment_id, writer = _new_id(), _new_id(), str(uuid.uuid4())
    block = MetricBlock(steps=range(5), columns=[MetricColumn(name="loss", values=_VALUES)])
    writes = [
        await caller.call("start_run", messages.StartRunRequest(run_id=run_id, experiment_id=experiment_id)),
        await caller.call("log_metric", messages.LogMetricRequest(run_id=run_id, name="acc", value=0.5, step=1)),
        await caller.call(
            "log_metrics", messages.LogMetricsRequest(run_id=run_id, writer_id=writer, sequence=1, blocks=[block])
        ),
        await caller.call(
            "close_writer", messages.CloseWriterRequest(run_id=run_id, writer_id=writer, last_sequence=1)
        ),
        await caller.call(
            "update_run", messages.UpdateRunRequest(run_id=run_id, changes=messages.RunChanges(name="A run"))
        ),
        await caller.call(
            "update_experiment",
            messages.UpdateExperimentRequest(
                experiment_id=experiment_id,
                changes=messages.ExperimentChanges(notes="Notes"),
                update_mask=FieldMask(paths=["notes"]),
            ),
        ),
        await caller.call(
            "run_completed",
            messages.RunCompletedRequest(
                run_id=run_id, status=RunStatus.RUN_STATUS_COMPLETED, final_metrics={"acc": 0.75}
            ),
        ),
    ]
    beat = await caller.call("heartbeat", messages.HeartbeatRequest(run_id=run_id))
    assert (beat.stop_requested, beat.lease_seconds) == (False, 120)
    written = [write.write_token for write in writes]
    assert all(written)

    run = await caller.call("get_run", run_id, write_tokens=written)
    assert (run.run.name, run.run.status) == ("A run", RunStatus.RUN_STATUS_COMPLETED)
    assert {metric.name: metric.count for metric in run.metrics} == {"acc": 1, "loss": 5}
    summary = await caller.call("get_summary", experiment_id, write_tokens=written)
    assert (summary.experiment.notes, summary.experiment.run_count) == ("Notes", 1)
    assert [(metric.name, metric.max.value) for metric in summary.metrics if metric.run_count] == [
        ("acc", 0.75),
        ("loss", 0.0),
    ]
    (series,) = await caller.call("get_metric_history", run_id, "loss", write_tokens=written)
    assert series.values.tobytes() == np.array(_VALUES).tobytes()
    assert (list(series.steps), series.steps.dtype, series.values.dtype) == ([0, 1, 2, 3, 4], np.int64, np.float64)
    (part,) = await caller.all("iter_metric_history", [run_id], ["acc"])
    assert (part.run_id, part.name, list(part.steps), list(part.values)) == (run_id, "acc", [1], [0.5])
    assert experiment_id in [each.experiment_id for each in await caller.all("list_experiments")]
    assert [each.run_id for each in await caller.all("list_runs", experiment_id)] == [run_id]
    assert await caller.all("list_runs", experiment_id, statuses=[RunStatus.RUN_STATUS_FAILED]) == []
    stats = await caller.call("get_dashboard_stats", write_tokens=written)
    assert stats.total_runs >= 1
    info = await caller.call("get_server_info")
    assert info.embedded
    assert info.limits.max_page_size == 1_000


async def test_a_rewind_and_the_points_that_it_superseded(caller: Caller) -> None:
    run_id, pair = _new_id(), {"writer_id": str(uuid.uuid4()), "sequence": 1}
    logged = await caller.call("log_metrics", _points(run_id, ["loss"], range(10)))
    back = messages.RewindRunRequest(run_id=run_id, step=4, **pair)  # type: ignore[arg-type]  # as they are named
    rewound = await caller.call("rewind_run", back)
    assert rewound.attempt > 0
    written = [logged.write_token, rewound.write_token]
    (live,) = await caller.call("get_metric_history", run_id, "loss", write_tokens=written)
    assert list(live.steps) == [0, 1, 2, 3, 4]
    (old,) = await caller.call("get_metric_history", run_id, "loss", attempt=0, max_step=8)
    assert (list(old.steps), old.total_points) == (list(range(9)), 9)
    parts = await caller.all("iter_metric_history", run_id, "loss", attempt=0, page_size=3)
    assert [step for part in parts for step in part.steps] == list(range(10))
    (none,) = await caller.call("get_metric_history", run_id, "loss", attempt=rewound.attempt)
    assert len(none) == 0
    run = await caller.call("get_run", run_id)
    assert [(attempt.attempt, attempt.rewound_from_step) for attempt in run.attempts] == [(0, 0), (rewound.attempt, 5)]


def test_a_page_token_of_one_attempt_is_none_of_another(address: str) -> None:
    run_id = _new_id()
    selection = messages.GetMetricHistoryRequest(run_ids=[run_id], metrics=["loss"])
    with open_channel(endpoint(address)) as channel:
        stub = TrackerServiceStub(channel)
        stub.LogMetrics(_points(run_id, ["loss"], range(10)), timeout=20)
        request = messages.GetMetricHistoryRequest(page_size=3, attempt=0)
        request.MergeFrom(selection)
        token = stub.GetMetricHistory(request, timeout=20).next_page_token
        for attempt in (1, None):
            wrong = messages.GetMetricHistoryRequest(attempt=attempt, page_token=token)
            wrong.MergeFrom(selection)
            with pytest.raises(grpc.RpcError, match="is of another request"):
                stub.GetMetricHistory(wrong, timeout=20)


async def test_stops_deletions_and_restorations(caller: Caller) -> None:
    run_id, experiment_id = _new_id(), _new_id()
    started = await caller.call("start_run", messages.StartRunRequest(run_id=run_id, experiment_id=experiment_id))
    stopped = await caller.call("stop_run", messages.StopRunRequest(run_id=run_id, reason="enough"))
    run = (await caller.call("get_run", run_id, write_tokens=[started.write_token, stopped.write_token])).run
    assert (run.stop_requested, run.stop_reason) == (True, "enough")
    taken_back = await caller.call("stop_run", messages.StopRunRequest(run_id=run_id, withdraw=True))
    run = (await caller.call("get_run", run_id, write_tokens=[taken_back.write_token])).run
    assert (run.stop_requested, run.stop_reason) == (False, "")
    deleted = await caller.call("delete_run", messages.DeleteRunRequest(run_id=run_id))
    run = (await caller.call("get_run", run_id, show_deleted=True, write_tokens=[deleted.write_token])).run
    assert run.HasField("deleted_at")
    restored = await caller.call("undelete_run", messages.UndeleteRunRequest(run_id=run_id))
    run = (await caller.call("get_run", run_id, write_tokens=[restored.write_token])).run
    assert not run.HasField("deleted_at")
    request = messages.DeleteExperimentRequest(experiment_id=experiment_id)
    gone = await caller.call("delete_experiment", request)
    listed = await caller.all("list_experiments", show_deleted=True, write_tokens=[gone.write_token])
    assert [one.HasField("deleted_at") for one in listed if one.experiment_id == experiment_id] == [True]
    back = await caller.call("undelete_experiment", messages.UndeleteExperimentRequest(experiment_id=experiment_id))
    summary = await caller.call("get_summary", experiment_id, write_tokens=[back.write_token])
    assert not summary.experiment.HasField("deleted_at")


async def test_lists_over_several_pages(caller: Caller) -> None:
    experiment_id = _new_id()
    runs = [f"{experiment_id}-{number}" for number in range(7)]
    written = [
        (await caller.call("start_run", messages.StartRunRequest(run_id=run, experiment_id=experiment_id))).write_token
        for run in runs
    ]
    listed = await caller.all("list_runs", experiment_id, page_size=3, write_tokens=written)
    assert sorted(run.run_id for run in listed) == runs
    everything = [run.run_id for run in await caller.all("list_runs", page_size=2)]
    assert len(everything) == len(set(everything))
    assert set(runs) <= set(everything)
    experiments = [each.experiment_id for each in await caller.all("list_experiments", page_size=1)]
    assert len(experiments) == len(set(experiments))
    assert experiment_id in experiments


async def test_a_history_over_several_pages(caller: Caller) -> None:
    first, second = _new_id(), _new_id()
    written = [
        (await caller.call("log_metrics", _points(run, ["a", "b"], range(-5, 20)))).write_token
        for run in (first, second)
    ]
    selection = ([first, second], ["b", "none", "a"])
    parts = await caller.all("iter_metric_history", *selection, page_size=10, write_tokens=written)
    assert max(len(part.steps) for part in parts) <= 10
    assert len(parts) > 6
    joined: dict[tuple[str, str], list[float]] = {}
    for part in parts:
        joined.setdefault((part.run_id, part.name), []).extend(part.values)
    whole = [step / 2 for step in range(-5, 20)]
    expected = {(run, name): [] if name == "none" else whole for run in selection[0] for name in selection[1]}
    assert joined == expected

    series = await caller.call("get_metric_history", *selection, min_step=0, max_step=9)
    assert [(each.run_id, each.name) for each in series] == list(expected)
    assert [list(each.steps) for each in series] == [list(range(10)), [], list(range(10))] * 2
    (few,) = await caller.call("get_metric_history", first, "a", max_points=4)
    assert few.downsampled
    assert len(few) <= 4 < few.total_points == 25


async def test_a_run_with_more_metrics_than_a_page(caller: Caller) -> None:
    run_id = _new_id()
    names = [f"metric-{number:04}" for number in range(1_500)]
    start = messages.StartRunRequest(run_id=run_id, experiment_id=run_id)
    written = [
        (await caller.call("start_run", start)).write_token,
        (await caller.call("log_metrics", _points(run_id, names, range(1)))).write_token,
    ]
    run = await caller.call("get_run", run_id, write_tokens=written)
    summary = await caller.call("get_summary", run_id, write_tokens=written)
    for whole in (run, summary):
        assert [metric.name for metric in whole.metrics] == names
        assert whole.next_page_token == ""
    assert (run.run.run_id, summary.experiment.run_count) == (run_id, 1)


async def test_errors_have_their_class_and_reason(caller: Caller) -> None:
    with pytest.raises(errors.NotFound, match="no run 'nobody'") as missing:
        await caller.call("get_run", "nobody")
    assert (missing.value.code, missing.value.reason) == ("NOT_FOUND", "RUN_NOT_FOUND")
    assert missing.value.metadata == {"run_id": "nobody"}
    with pytest.raises(errors.InvalidRequest) as invalid:
        await caller.call("log_metric", messages.LogMetricRequest(run_id="a/b", name=""))
    assert [field for field, _ in invalid.value.violations] == ["run_id", "name"]
    with pytest.raises(errors.InvalidRequest, match="metrics: has 0 entries"):
        await caller.all("iter_metric_history", ["a"], [])
    with pytest.raises(errors.TooLarge) as large:
        await caller.call("log_metrics", _points("run", ["a", "b"], range(200_000)))
    assert (large.value.reason, large.value.retryable) == ("REQUEST_TOO_LARGE", False)


def test_calls_by_hand_can_use_the_same_parts(address: str) -> None:
    """Whoever drives raw calls, several in flight, finds channel, metadata and errors to build on."""
    to = endpoint(address, "not-asked-for")
    request = messages.LogMetricRequest(run_id="a/b", name="loss")
    with open_channel(to) as channel:
        log_metric: Any = channel.unary_unary(
            "/tracker.v1.TrackerService/LogMetric", messages.LogMetricRequest.SerializeToString
        )
        call = log_metric.future(request, timeout=20, metadata=to.metadata)
        failure = call.exception()
        assert isinstance(failure, grpc.RpcError)
        for error in (errors.error_of(failure), errors.error_of(cast("grpc.RpcError", call))):
            assert (type(error), error.reason) == (errors.InvalidRequest, "INVALID_REQUEST")
            assert [field for field, _ in error.violations] == ["run_id"]


async def test_a_token_of_a_write_that_never_comes_takes_as_long_as_the_caller_allows(caller: Caller) -> None:
    run_id = _new_id()
    token = tokens.write_token(internal.Write(scope_id=run_id, writer_id=str(uuid.uuid4()), sequence=9))
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await caller.call("get_run", run_id, write_tokens=[token], timeout=1.0)
    assert (caught.value.reason, caught.value.retry_after) == ("WRITE_NOT_VISIBLE", 1.0)


async def test_a_closed_client_says_so(caller: Caller) -> None:
    await caller.call("get_server_info")
    for _ in range(2):
        await caller.call("close")
        with pytest.raises(errors.ClientClosed, match="the client is closed"):
            await caller.call("get_server_info")


async def test_arguments_that_cannot_be(address: str) -> None:
    for kind in (TrackerClient, AsyncTrackerClient):
        with pytest.raises(BadSetting, match="server is 'nowhere'"):
            kind("nowhere")
        with pytest.raises(BadSetting, match="timeout is 0"):
            kind(address, timeout=0)
    async with AsyncTrackerClient(address) as client:
        with pytest.raises(BadSetting, match="timeout is -1"):
            await client.get_server_info(timeout=-1)
