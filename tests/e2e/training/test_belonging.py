"""Groups, parents, labels one by one, and what metrics mean: said in a script, seen by whoever reads."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.servers.ports import free_port
from tests.e2e.load import call
from tests.e2e.training.jobs import Job, get_run
from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

_TRAIN = """
import json, sys
import tracker_client as tracker
run = tracker.init("belonging", run_id=sys.argv[1], group="fold 3", parent="sweep-1", tags=["a", "b"], capture=False)
run.define_metric("val/*", goal="minimize", x="epoch", unit="nats")
run.define_metric("acc", goal="maximize", description="on the held-out part")
run.log({"val/loss": 0.5, "acc": 0.9})
run.add_tags("c", "a")
run.remove_tags("b", "never there")
print(json.dumps(run.tags))
run.finish("failed", error="diverged", timeout=float(sys.argv[2]))
"""


def _check(stub: TrackerServiceStub, run_id: str) -> None:
    answer = get_run(stub, run_id)
    run = answer.run
    assert (run.group, run.parent_run_id, list(run.tags), run.reason) == ("fold 3", "sweep-1", ["a", "c"], "diverged")
    assert answer.attempts[0].reason == "diverged"
    # What is said of the experiment leaves no hole among the run's own writes.
    assert answer.completeness.complete
    summary: public.GetSummaryResponse = call(stub.GetSummary, public.GetSummaryRequest(experiment_id="belonging"))
    assert list(summary.experiment.metric_definitions) == [
        data.MetricDefinition(name="acc", goal=data.METRIC_GOAL_MAXIMIZE, description="on the held-out part"),
        data.MetricDefinition(name="val/*", goal=data.METRIC_GOAL_MINIMIZE, x_metric="epoch", unit="nats"),
    ]


def test_a_run_says_where_it_belongs_and_what_its_metrics_mean(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    ended = Job(tmp_path, _TRAIN, server=server).run("belongs", "30")
    assert (ended.code, ended.errors) == (0, "")
    assert json.loads(ended.output) == ["a", "c"]
    _check(stub, "belongs")


def test_all_of_it_is_kept_while_there_is_no_server(tmp_path: Path, server: str, stub: TrackerServiceStub) -> None:
    job = Job(tmp_path, _TRAIN, server=f"127.0.0.1:{free_port()}")
    assert job.run("belongs-later", "0").code == 0
    job.sync(server)
    _check(stub, "belongs-later")


def test_what_cannot_be_is_said_once_and_training_goes_on(tmp_path: Path, server: str) -> None:
    script = """
import tracker_client as tracker
run = tracker.init("belonging", group=7, parent="no such/id", capture=False)
run.define_metric("loss", goal="smaller")
run.define_metric("")
run.add_tags()
run.log({"loss": 1.0})
run.finish()
"""
    ended = Job(tmp_path, script, server=server).run()
    assert ended.code == 0
    said = "\n".join(ended.warnings)
    assert "parent is 'no such/id'" in said
    assert "goal is 'smaller'; it must be 'minimize' or 'maximize'" in said
    assert "define_metric() was given no name" in said
