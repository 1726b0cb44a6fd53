"""What cannot be sent as it is, is made so that it can; nothing that a script gives raises into training."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracker.v1 import tracker_service_pb2 as calls
from tracker_client import requests
from tracker_client.config import MAX_DEPTH, ConfigError, from_config
from tracker_client.reporter import OnError, Reporter
from tracker_client.run_views import RunConfig, RunSummary
from tracker_server.validation.config import check_config
from tracker_server.validation.violations import Violations


class _Color(Enum):
    RED = "red"


@dataclass
class _Model:
    depth: int = 4
    layers: list[int] = field(default_factory=lambda: [1, 2])


class _Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def _sent(config: object) -> tuple[dict[str, Any], list[str]]:
    message, changed = requests.config_message(config)
    check_config(Violations(), "config", message)
    return from_config(message), changed


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"a": 1, "b": 1.0, "c": None, "d": True, "e": "x"}, {"a": 1, "b": 1.0, "c": None, "d": True, "e": "x"}),
        (_Model(), {"depth": 4, "layers": [1, 2]}),
        (argparse.Namespace(lr=0.1, model=_Model(2)), {"lr": 0.1, "model": {"depth": 2, "layers": [1, 2]}}),
        ({"color": _Color.RED, "set": {3, 1, 2}, "tuple": (1,)}, {"color": "red", "set": [1, 2, 3], "tuple": [1]}),
        ({"numpy": np.float64(0.5), "int": np.int32(3)}, {"numpy": 0.5, "int": 3}),
    ],
)
def test_configs_of_all_kinds(config: object, expected: dict[str, Any]) -> None:
    assert _sent(config) == (expected, [])


@pytest.mark.parametrize(
    ("config", "expected", "changed"),
    [
        ({1: "a"}, {"1": "a"}, ["config[1]"]),
        ({"": "a"}, {"_": "a"}, ["config['']"]),
        ({"path": Path("/data")}, {"path": "/data"}, ["config['path']"]),
        ({"list": [object]}, {"list": ["<class 'object'>"]}, ["config['list'][0]"]),
        ({"big": 2**70}, {"big": str(2**70)}, ["config['big']"]),
        ({"huge": 10**5000}, {"huge": "<int>"}, ["config['huge']"]),
        ({"hostile": _Hostile()}, {"hostile": "<_Hostile>"}, ["config['hostile']"]),
        ({"text": "a\0\ud800"}, {"text": "a?"}, []),
    ],
)
def test_what_no_config_can_hold_becomes_text(config: object, expected: dict[str, Any], changed: list[str]) -> None:
    assert _sent(config) == (expected, changed)


def test_the_deepest_config_that_a_server_takes_is_sent_as_it_is() -> None:
    deep: dict[str, Any] = {"leaf": 1}
    for _ in range(MAX_DEPTH - 1):
        deep = {"inner": deep}
    assert _sent(deep) == (deep, [])
    (_, changed) = _sent({"inner": deep})
    assert len(changed) == 1


def test_a_config_that_contains_itself_comes_to_an_end() -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    assert len(_sent(endless)[1]) == 1


@pytest.mark.parametrize("config", [5, "text", [1]])
def test_what_has_no_names_is_told(config: object) -> None:
    with pytest.raises(ConfigError, match="it must be a dict, a dataclass or a namespace"):
        requests.config_message(config)


def test_a_config_too_large_is_told() -> None:
    with pytest.raises(ConfigError, match="at most 262144 can be sent"):
        requests.config_message({f"k{index}": "x" * 60_000 for index in range(5)})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, []),
        ("one", ["one"]),
        (5, ["5"]),
        (["b", "a", "b", ""], ["b", "a"]),
        ((1, None), ["1", "None"]),
        (["x" * 300], ["x" * 256]),
        ((str(number) for number in range(2000)), [str(number) for number in range(1000)]),
    ],
)
def test_tags_of_all_kinds(given: object, expected: list[str]) -> None:
    assert requests.tag_list(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {}),
        ({"a": 1, 2: "b", "": "no key"}, {"a": "1", "2": "b"}),
        ([("a", 1)], {"a": "1"}),
        ("text", {"value": "text"}),
        (5, {"value": "5"}),
        ({"k": "x" * 70_000, "nul": "a\0b", "lone": "\ud800"}, {"k": "x" * 65_536, "nul": "ab", "lone": "?"}),
        ({"h": _Hostile()}, {"h": "<_Hostile>"}),
    ],
)
def test_metadata_of_all_kinds(given: object, expected: dict[str, str]) -> None:
    assert requests.texts(given) == expected


def test_names_and_notes() -> None:
    assert (requests.label(None), requests.notes_text(None)) == ("", "")
    assert requests.label("x" * 300) == "x" * 256
    changes = requests.run_changes(name=5, notes="n", tags="t", metadata={"a": 1}, artifacts={"b": Path("/x")})
    expected = calls.RunChanges(name="5", notes="n", tags=["t"], metadata={"a": "1"}, artifacts={"b": "/x"})
    assert changes == expected


# ---------------------------------------------------------------- a run's config and summary


class _Changes(list[tuple[dict[str, Any], tuple[str, ...]]]):
    def __call__(self, changes: calls.RunChanges, paths: tuple[str, ...] = ()) -> None:
        self.append((from_config(changes.config), paths))


def test_a_config_is_a_dict_whose_changes_are_sent() -> None:
    sent = _Changes()
    config = RunConfig(sent, Reporter(OnError.RAISE))
    config.keep({"lr": 1})
    config["a"] = {"b": 2}
    config.update({"c": 3}, d=4)
    config.update()
    del config["lr"]
    assert sent == [({"a": {"b": 2}}, ()), ({"c": 3, "d": 4}, ()), ({}, ("config.lr",))]
    assert dict(config) == {"a": {"b": 2}, "c": 3, "d": 4}
    assert (len(config), repr(config)) == (3, "RunConfig({'a': {'b': 2}, 'c': 3, 'd': 4})")


def test_a_config_that_cannot_be_sent_is_told_and_never_raised(caplog: pytest.LogCaptureFixture) -> None:
    sent = _Changes()
    config = RunConfig(sent, Reporter(OnError.WARN))
    with caplog.at_level(logging.WARNING, "tracker_client"):
        config.update(5)
        config["large"] = ["x" * 60_000] * 6
        config["path"] = Path("/x")
    assert sent == [({"path": "/x"}, ())]
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 3
    assert texts[0].startswith("tracker: config.update() takes what dict() does")
    assert "at most 262144" in texts[1]
    assert texts[2] == "tracker: config: sent as text, having no other form: config['path']"
    with pytest.raises(TypeError, match="takes what dict"):
        RunConfig(sent, Reporter(OnError.RAISE)).update(5)


def test_a_summary_takes_numbers_and_tells_what_is_none() -> None:
    summary = RunSummary(Reporter(OnError.RAISE))
    summary["loss"] = np.float32(0.5)
    summary["eval"] = {"acc": 1}
    with pytest.raises(TypeError, match="summary: metric 'bad': 'x' is of type str"):
        summary["bad"] = "x"
    del summary["loss"]
    assert dict(summary) == summary.numbers() == {"eval/acc": 1.0}
    summary.update({str(number): number for number in range(2000)})
    assert len(summary.numbers()) == 1000


# ---------------------------------------------------------------- what a script is told


def test_each_thing_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    reporter = Reporter(OnError.WARN)
    with caplog.at_level(logging.INFO, "tracker_client"):
        for _ in range(3):
            reporter.warn("a")
            reporter.warn("b", key="one")
            reporter.warn("c", key="one")
            reporter.mistake(lambda: ValueError("d"))
    assert [record.getMessage() for record in caplog.records] == ["tracker: a", "tracker: b", "tracker: d"]


def test_mistakes_are_raised_for_those_who_want_that() -> None:
    reporter = Reporter(OnError.RAISE)
    assert reporter.raises
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"):
            reporter.mistake_is(ValueError("wrong"))


def test_what_is_remembered_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    reporter = Reporter(OnError.WARN)
    for number in range(1100):
        reporter.warn(str(number))
    assert len(caplog.records) == 1000
