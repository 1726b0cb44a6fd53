"""Mistakes in how the client is used: each said once, in words, and training goes on; or raised for those who want it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.training.jobs import Job, get_run, read_points
from tracker.v1 import resources_pb2 as data
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tracker_client.config import from_config

_INIT = """
import math, sys
import tracker_client as tracker

class Bad:
    def __str__(self): raise RuntimeError("cannot be shown")
    __repr__ = __str__
    def __float__(self): raise RuntimeError("CUDA error: an illegal memory access was encountered")
    def item(self): raise RuntimeError("CUDA error: an illegal memory access was encountered")

def begin(**more):
    return tracker.init("mistakes", run_id=sys.argv[1], capture=False, **more)

"""
_AFTER = "\nrun.log({'fine': 1.0}, step=7)\nrun.finish()"

_IN_USE = {
    "a text as a metric": ("run.log({'loss': 'low'})", "metric 'loss': 'low' is of type str"),
    "none as a metric": ("run.log({'loss': None})", "metric 'loss': None is of type NoneType"),
    "a list as a metric": ("run.log({'loss': [1, 2]})", "metric 'loss': [1, 2] is of type list"),
    "a value that fails": ("run.log({'loss': Bad()})", "metric 'loss': a Bad"),
    "a number instead of metrics": ("run.log(3.0)", "log() was given a float"),
    "no metrics": ("run.log({})", "log() was given no metrics"),
    "a name that is none": ("run.log({3: 1.0, '': 2.0})", "metric name"),
    "a name that is too long": ("run.log({'x' * 257: 1.0})", "257 characters"),
    "a step that is none": ("run.log({'loss': 1.0}, step='first')", "step is 'first' of type str"),
    "a step that fails": ("run.log({'loss': 1.0}, step=Bad())", "step is something of type Bad"),
    "a step that is too large": ("run.log({'loss': 1.0}, step=2**63)", "must fit into 64 bits"),
    "a time that is none": ("run.log({'loss': 1.0}, time='now')", "time is 'now'"),
    "a config that is none": ("run.config.update(5)", "config.update() takes what dict() does"),
    "a config that is too large": ("run.config['x'] = ['y' * 60_000] * 5", "at most 262144 can be sent"),
    "a config with an object": ("run.config['x'] = {'a': object}", "sent as text"),
    "metadata that are too large": (
        "run.log_metadata({str(i): 'x' * 65_000 for i in range(20)})",
        "at most 1048576 can be sent at once",
    ),
    "a summary that is none": ("run.summary['best'] = 'model'", "summary: metric 'best'"),
    "a status that is none": ("run.finish('done')", "status is 'done'"),
    "logging after the end": ("run.finish(); run.log({'loss': 1.0}); run.log({'loss': 1.0})", "had finished"),
    "a change after the end": ("run.finish(); run.set_name('late')", "has finished"),
}


@pytest.mark.parametrize("mistake", _IN_USE)
def test_a_mistake_in_use_is_said_once_and_training_goes_on(
    mistake: str, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """Made twice. What was right is there all the same."""
    code, words = _IN_USE[mistake]
    run_id = "use-" + mistake.replace(" ", "-")
    ended = Job(tmp_path, f"{_INIT}run = begin()\n{code}\n{code}{_AFTER}", server=server).run(run_id)
    assert ended.code == 0, ended
    said = [line for line in ended.warnings if words in line]
    assert len(said) == 1, ended.errors
    assert "Traceback" not in ended.errors
    answer = get_run(stub, run_id)
    assert answer.completeness.complete
    if "run.finish" not in code:
        assert answer.run.status == data.RUN_STATUS_COMPLETED
        assert read_points(stub, [run_id], ["fine"])[run_id, "fine"] == [(7, 1.0)]
        assert len(ended.warnings) in (1, 2), ended.errors


_RAISED = {
    "a text as a metric": ("run.log({'loss': 'low'})", "TypeError"),
    "no metrics": ("run.log({})", "ValueError"),
    "a step that is none": ("run.log({'loss': 1.0}, step='first')", "ValueError"),
    "a summary that is none": ("run.summary['best'] = 'model'", "TypeError"),
    "logging after the end": ("run.finish(); run.log({'loss': 1.0})", "ValueError"),
    "a status that is none": ("run.finish('done')", "ValueError"),
    "an id": ("tracker.init('my experiment', capture=False, on_error='raise')", "BadSetting"),
    "a mode": ("tracker.init(mode='on', capture=False, on_error='raise')", "BadSetting"),
    "a server": ("tracker.init(server='nowhere', mode='online', capture=False, on_error='raise')", "BadSetting"),
    "a config": ("tracker.init(config=5, capture=False, on_error='raise')", "ConfigError"),
}


def test_those_who_want_it_have_their_mistakes_raised(tmp_path: Path) -> None:
    """on_error="raise": each with the type that fits."""
    tries = "".join(
        f"\nrun = begin(on_error='raise')\ntry:\n    {code}\nexcept Exception as error:\n"
        f"    raised.append([type(error).__name__, isinstance(error, (ValueError, TypeError))])\n"
        f"else:\n    raised.append([None, False])\nrun.finish(timeout=0)"
        for code, _ in _RAISED.values()
    )
    ended = Job(tmp_path, f"{_INIT}import json; raised = []{tries}\nprint(json.dumps(raised))", mode="offline").run("r")
    assert ended.code == 0, ended
    raised = dict(zip(_RAISED, json.loads(ended.output), strict=True))
    assert raised == {name: [kind, True] for name, (_, kind) in _RAISED.items()}


_AT_INIT = {
    "an experiment with a space": ("'my experiment'", "experiment is 'my experiment'", "my-experiment"),
    "an experiment that is none": ("['a']", "experiment is", "a"),
    "no experiment": ("None", "", "default"),
    "a config that is none": ("'e', config=5", "config is a int", "e"),
    "a config that fails": ("'e', config={'x': Bad()}", "config: sent as text, having no other form: config['x']", "e"),
    "a resume that is none": ("'e', resume='yes'", "'yes' is not a valid Resume", "e"),
    "an on_error that is none": ("'e', on_error='ignore'", "'ignore' is not a valid OnError", "e"),
    "an attempt that is none": ("'e', attempt=-1", "attempt is -1", "e"),
    "a mode that is none": ("'e', mode='on'", "mode is 'on'", "e"),
    "a capture that is none": ("'e', capture=['gti']", "capture has 'gti'", "e"),
}


@pytest.mark.parametrize("mistake", _AT_INIT)
def test_a_mistake_at_the_start_costs_only_itself(
    mistake: str, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """The run is there, with its points, in the experiment that is nearest to what was meant."""
    arguments, words, experiment = _AT_INIT[mistake]
    run_id = "init-" + mistake.replace(" ", "-")
    capture = "" if "capture" in arguments else ", capture=False"
    script = f"{_INIT}run = tracker.init({arguments}, run_id=sys.argv[1]{capture}){_AFTER}"
    ended = Job(tmp_path, script, server=server).run(run_id)
    assert ended.code == 0, ended
    assert [words in line for line in ended.warnings] == [True] * bool(words), ended.errors
    answer = get_run(stub, run_id)
    assert answer.run.experiment_id == experiment
    assert answer.completeness.complete
    assert read_points(stub, [run_id], ["fine"])[run_id, "fine"] == [(7, 1.0)]


@pytest.mark.parametrize(
    ("name", "value"), [("MODE", "on"), ("ATTEMPT", "first"), ("RANK", "-1"), ("JOURNAL_BYTES", "8GB")]
)
def test_a_bad_variable_costs_only_itself(
    name: str, value: str, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """Its default is taken."""
    run_id = f"variable-{name}"
    ended = Job(tmp_path, f"{_INIT}run = begin(){_AFTER}", server=server).run(run_id, **{f"TRACKER_{name}": value})
    assert ended.code == 0, ended
    assert [f"TRACKER_{name} is '{value}'" in line for line in ended.warnings] == [True], ended.errors
    assert read_points(stub, [run_id], ["fine"])[run_id, "fine"] == [(7, 1.0)]


def test_a_server_that_can_be_none_keeps_everything_for_a_sync(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """One warning that says what is right; no time is lost, and the sync is told where to."""
    job = Job(tmp_path, f"{_INIT}run = begin(){_AFTER}", server="my server")
    ended = job.run("unreachable")
    assert ended.code == 0, ended
    assert ["it must be HOST:PORT" in line for line in ended.warnings] == [True], ended.errors
    assert ended.seconds < 5
    job.sync(server)
    assert read_points(stub, ["unreachable"], ["fine"])["unreachable", "fine"] == [(7, 1.0)]


def test_a_config_of_whatever_arrives_with_what_can_be_sent(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """What no config can hold is sent as its text, and one warning names it."""
    script = f"""{_INIT}
from pathlib import Path
loop = {{}}; loop["self"] = loop
run = begin(config={{"lr": 0.1, "path": Path("/data"), 3: "three", "big": 2**70, "none": None, "kind": Bad, "s": {{1}}}})
run.config["sets"] = frozenset("a")
{_AFTER}"""
    ended = Job(tmp_path, script, server=server).run("odd-config")
    assert len(ended.warnings) == 1, ended.errors
    for place in ("config['path']", "config[3]", "config['big']", "config['kind']"):
        assert place in ended.warnings[0]
    config = from_config(get_run(stub, "odd-config").run.config)
    assert config.pop("kind").startswith("<class")
    assert config == {
        "lr": 0.1,
        "path": "/data",
        "3": "three",
        "big": str(2**70),
        "none": None,
        "s": [1],
        "sets": ["a"],
    }
