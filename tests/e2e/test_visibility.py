"""Read-your-writes: a read that carries a write's token has that write in its answer, or says what is missing."""

import uuid
from typing import Any

import pytest

from tests.e2e.deployment import Deployment
from tests.e2e.load import Failure, call
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as public
from tracker_server.tokens import write_token


@pytest.mark.timeout(60)
def test_every_kind_of_write_is_in_the_read_that_carries_its_token(calm: Deployment) -> None:
    """Each kind of write is followed at once by each kind of read that must show it, with the token and nothing else to
    wait for; summary, list and dashboard are read before, so that an old answer of each lies in the cache."""
    stub = calm.stub()
    name = f"mine-{uuid.uuid4().hex}"
    before = call(stub.GetDashboardStats, public.GetDashboardStatsRequest())

    token = call(stub.StartRun, public.StartRunRequest(run_id=name, experiment_id=name, tags=["b", "a"])).write_token
    assert list(get_run(stub, name, token).run.tags) == ["a", "b"]
    summary = call(stub.GetSummary, public.GetSummaryRequest(experiment_id=name, write_tokens=[token]), 30)
    assert summary.experiment.run_count == 1
    listed = call(stub.ListExperiments, public.ListExperimentsRequest(write_tokens=[token]), 30)
    assert name in [experiment.experiment_id for experiment in listed.experiments]
    stats = call(stub.GetDashboardStats, public.GetDashboardStatsRequest(write_tokens=[token]), 30)
    assert stats.total_runs > before.total_runs
    assert stats.total_experiments > before.total_experiments

    for number in range(20):
        call(stub.GetSummary, public.GetSummaryRequest(experiment_id=name))
        request = public.LogMetricRequest(run_id=name, name="loss", value=number)
        token = call(stub.LogMetric, request).write_token
        found = get_run(stub, name, token).metrics[0]
        assert (found.last.step, found.last.value) == (number, number)
        history = public.GetMetricHistoryRequest(run_ids=[name], metrics=["loss"], write_tokens=[token])
        assert list(call(stub.GetMetricHistory, history, 30).series[0].values) == list(range(number + 1))
        summary = call(stub.GetSummary, public.GetSummaryRequest(experiment_id=name, write_tokens=[token]), 30)
        assert summary.metrics[0].max.value == number

    changes = public.RunChanges(notes="seen", stop_requested=True)
    token = call(stub.UpdateRun, public.UpdateRunRequest(run_id=name, changes=changes)).write_token
    run = get_run(stub, name, token).run
    assert run.notes == "seen"
    assert run.stop_requested
    changed = public.UpdateExperimentRequest(experiment_id=name, changes=public.ExperimentChanges(notes="noted"))
    token = call(stub.UpdateExperiment, changed).write_token
    summary = call(stub.GetSummary, public.GetSummaryRequest(experiment_id=name, write_tokens=[token]), 30)
    assert summary.experiment.notes == "noted"
    completed = public.RunCompletedRequest(run_id=name, status=resources.RUN_STATUS_COMPLETED)
    token = call(stub.RunCompleted, completed).write_token
    runs = call(stub.ListRuns, public.ListRunsRequest(experiment_id=name, write_tokens=[token]), 30).runs
    assert [run.status for run in runs] == [resources.RUN_STATUS_COMPLETED]


@pytest.mark.timeout(60)
def test_a_write_that_does_not_come_is_named_within_the_deadline(calm: Deployment) -> None:
    """A token of a write that was never sent: the read ends within its deadline with DEADLINE_EXCEEDED, RetryInfo and a
    message that names run, writer and sequence."""
    stub = calm.stub()
    run_id, writer = f"waiting-{uuid.uuid4().hex}", uuid.uuid4().hex
    token = call(
        stub.LogMetric,
        public.LogMetricRequest(run_id=run_id, name="loss", value=1, writer_id=writer, sequence=1),
    ).write_token
    assert get_run(stub, run_id, token).metrics[0].count == 1
    missing = write_token(internal.Write(scope_id=run_id, writer_id=writer, sequence=2))
    with pytest.raises(Failure) as caught:
        call(stub.GetRun, public.GetRunRequest(run_id=run_id, write_tokens=[token, missing]), 1.5)
    # The server said so itself: past the deadline the caller would have given up, with nothing to say.
    check_missing(caught.value, run_id, writer, 2)


@pytest.mark.timeout(60)
def test_the_token_of_a_close_waits_for_all_that_the_writer_sent(calm: Deployment) -> None:
    """The close and the second write are applied, the first is still to come: the read waits for it."""
    stub = calm.stub()
    run_id, writer = f"closed-{uuid.uuid4().hex}", uuid.uuid4().hex
    point = public.LogMetricRequest(run_id=run_id, name="loss", value=2, step=2, writer_id=writer, sequence=2)
    second = call(stub.LogMetric, point).write_token
    close = public.CloseWriterRequest(run_id=run_id, writer_id=writer, last_sequence=2)
    closed = call(stub.CloseWriter, close).write_token
    assert get_run(stub, run_id, second).metrics[0].count == 1
    with pytest.raises(Failure) as caught:
        get_run(stub, run_id, closed, 1)
    assert (caught.value.reason, "close" in caught.value.details) == ("WRITE_NOT_VISIBLE", True)
    point.step, point.sequence = 1, 1
    call(stub.LogMetric, point)
    answer = get_run(stub, run_id, closed)
    assert answer.metrics[0].count == 2
    assert answer.completeness.complete


@pytest.mark.timeout(90)
def test_without_a_consumer_the_read_says_what_it_waits_for_and_a_consumer_helps(full: Deployment) -> None:
    """Only a server runs: writes are acknowledged, and reads that carry their tokens end within their deadlines and name
    them. A consumer is started while such a read waits: it is answered."""
    full.migrate()
    full.add("serve").start()
    stub = full.stub()
    writer = uuid.uuid4().hex
    request = public.LogMetricRequest(run_id="later", name="loss", value=1, writer_id=writer, sequence=1)
    token = call(stub.LogMetric, request).write_token
    with pytest.raises(Failure) as caught:
        get_run(stub, "later", token, 1)
    check_missing(caught.value, "later", writer, 1)
    waiting = stub.GetRun.future(public.GetRunRequest(run_id="later", write_tokens=[token]), timeout=40)
    full.add("consume").start()
    assert waiting.result().metrics[0].count == 1


def get_run(stub: Any, run_id: str, token: str, timeout: float = 30) -> public.GetRunResponse:
    """With a token."""
    answer: public.GetRunResponse = call(
        stub.GetRun, public.GetRunRequest(run_id=run_id, write_tokens=[token]), timeout
    )
    return answer


def check_missing(failure: Failure, run_id: str, writer: str, sequence: int) -> None:
    """It says what is missing."""
    assert (failure.code.name, failure.reason) == ("DEADLINE_EXCEEDED", "WRITE_NOT_VISIBLE"), failure
    assert failure.retry_after
    for text in (run_id, writer, f"sequence {sequence}", "1 of"):
        assert text in failure.details
