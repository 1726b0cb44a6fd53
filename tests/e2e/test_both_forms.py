"""The embedded and the full form are the same tracker: the same writes give the same answers."""

import math
import uuid
from collections.abc import Iterator
from functools import partial

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.servers.processes import wait_until
from tests.e2e.deployment import Deployment
from tests.e2e.load import Failure, call
from tests.e2e.recount import wait_visible
from tests.e2e.test_nasty_data import NASTY
from tests.e2e.typed import to_config
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1 import tracker_service_pb2_grpc as rpc

_TODAY = 1_700_001_000
"""Seconds. The story's own times are all before: a later one is of the clock of this machine."""


@pytest.mark.timeout(90)
def test_both_forms_give_the_same_answers(calm_embedded: Deployment, calm_full: Deployment) -> None:
    """A story of several runs (two attempts, a rewritten step, a completion, updates, refused requests, a missing and a
    duplicate write) is told to both; then every read, and every error, must be equal as a protobuf message."""
    mark = uuid.uuid4().hex[:8]
    answers = []
    for deployment in (calm_embedded, calm_full):
        stub = deployment.stub()
        tell(stub, mark)
        answers.append([plain(answer) for answer in ask(stub, mark)])
    for embedded, full in zip(*answers, strict=True):
        if embedded.SerializeToString(deterministic=True) != full.SerializeToString(deterministic=True):
            # The bytes decide, since NaN is not equal to itself; the text shows where.
            assert str(embedded).splitlines() == str(full).splitlines()
            pytest.fail(f"other bytes for the same text: {embedded}")


def tell(stub: rpc.TrackerServiceStub, mark: str) -> None:
    """Writes, each at its time, one after the other."""
    for request in story(mark):
        method = type(request).__name__.removesuffix("Request")
        token = call(getattr(stub, method), request).write_token
        if isinstance(request, public.CloseWriterRequest):
            # Its token waits for all that the writer sent, and of this one something is missing.
            assert wait_until(partial(is_closed, stub, request.run_id), seconds=60)
        else:
            wait_visible(stub, [token])


def is_closed(stub: rpc.TrackerServiceStub, run_id: str) -> bool:
    """Whether a writer of the run has closed itself."""
    answer: public.GetRunResponse = call(stub.GetRun, public.GetRunRequest(run_id=run_id))
    return any(writer.closed for writer in answer.completeness.writers)


def story(mark: str) -> Iterator[Message]:
    """What happened."""
    experiment, writers = f"story-{mark}", [f"{mark}-writer-{number:08}" for number in range(4)]
    for number in range(3):
        yield public.StartRunRequest(
            run_id=f"{experiment}-{number}",
            experiment_id=experiment,
            name=f"run {number}",
            config=to_config(NASTY),
            tags=["b", "a", str(number)],
            metadata={"host": "é"},
            timestamp=Timestamp(seconds=1_700_000_000 + number),
            writer_id=writers[number],
            sequence=1,
        )
    for number, attempt, first in ((0, 0, 0), (1, 5, 0), (1, 6, 40), (2, 0, 0)):
        steps = list(range(first, first + 60)) + [first + 7] * 3
        values = [math.sin(step) * (number + 1) for step in steps]
        values[5], values[6] = math.nan, math.inf
        columns = [resources.MetricColumn(name=name, values=values) for name in ("loss", "ac/curacy", "é")]
        request = public.LogMetricsRequest(
            run_id=f"{experiment}-{number}",
            writer_id=writers[number],
            sequence=2 + attempt,
            attempt=attempt,
            blocks=[
                resources.MetricBlock(
                    steps=steps, times_unix_ms=[1_700_000_000_000 + step for step in steps], columns=columns
                )
            ],
        )
        yield request
        yield request
    for value in (1.0, math.nan, -0.0):
        yield public.LogMetricRequest(
            run_id=f"{experiment}-0", name="stepless", value=value, timestamp=Timestamp(seconds=1_700_000_100)
        )
    yield public.LogMetricsRequest(run_id=f"{experiment}-2", writer_id=writers[2], sequence=3, dropped_points=17)
    yield public.CloseWriterRequest(run_id=f"{experiment}-2", writer_id=writers[2], last_sequence=5)
    yield public.UpdateRunRequest(
        run_id=f"{experiment}-1",
        changes=public.RunChanges(name="new", notes="n", stop_requested=True, artifacts={"a": "b"}),
        timestamp=Timestamp(seconds=1_700_000_200),
    )
    yield public.UpdateExperimentRequest(
        experiment_id=experiment,
        changes=public.ExperimentChanges(name="Story", tags=["x"], metadata={"k": "v"}),
        timestamp=Timestamp(seconds=1_700_000_200),
    )
    yield public.StartRunRequest(
        run_id=f"{experiment}-2", experiment_id=f"other-{mark}", timestamp=Timestamp(seconds=9)
    )
    yield public.RunCompletedRequest(
        run_id=f"{experiment}-0",
        status=resources.RUN_STATUS_COMPLETED,
        final_metrics={"loss": 0.25, "extra": math.inf},
        timestamp=Timestamp(seconds=1_700_000_300),
    )


def ask(stub: rpc.TrackerServiceStub, mark: str) -> Iterator[Message]:
    """Every read."""
    experiment = f"story-{mark}"
    runs = [f"{experiment}-{number}" for number in range(3)]
    for run_id in runs:
        yield call(stub.GetRun, public.GetRunRequest(run_id=run_id))
        yield call(stub.GetRun, public.GetRunRequest(run_id=run_id, page_size=1))
    yield call(stub.ListRuns, public.ListRunsRequest(experiment_id=experiment))
    yield call(stub.ListRuns, public.ListRunsRequest(experiment_id=experiment, statuses=[resources.RUN_STATUS_RUNNING]))
    # Past the cache, which may lag a second behind.
    for size in (0, 2):
        token = call(stub.LogMetric, public.LogMetricRequest(run_id=f"{mark}-now", name="x", value=1)).write_token
        yield call(
            stub.GetSummary,
            public.GetSummaryRequest(experiment_id=experiment, page_size=size, write_tokens=[token]),
            30,
        )
    history = public.GetMetricHistoryRequest(run_ids=runs, metrics=["loss", "é", "stepless", "never"])
    yield call(stub.GetMetricHistory, history)
    history.max_points = 8
    yield call(stub.GetMetricHistory, history)
    history.min_step, history.max_step, history.max_points, history.page_size = 3, 50, 0, 31
    while True:
        page = call(stub.GetMetricHistory, history)
        yield page
        if not page.next_page_token:
            break
        history.page_token = page.next_page_token
    for request in (
        public.GetRunRequest(run_id="nobody"),
        public.GetSummaryRequest(experiment_id="nobody"),
        public.GetMetricHistoryRequest(run_ids=["nobody"], metrics=["loss"]),
        public.LogMetricRequest(run_id="", name="\0"),
    ):
        with pytest.raises(Failure) as caught:
            call(getattr(stub, type(request).__name__.removesuffix("Request")), request)
        yield resources.MetricColumn(name=f"{caught.value} {caught.value.reason}")


def plain(message: Message) -> Message:
    """Without what the clock of this machine says."""
    copy = type(message)()
    copy.CopyFrom(message)
    _strip(copy)
    return copy


def _strip(message: Message) -> None:
    for field, value in message.ListFields():
        if isinstance(value, Timestamp):
            if value.seconds > _TODAY:
                message.ClearField(field.name)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for item in [value] if isinstance(value, Message) else value:
                _strip(item)
