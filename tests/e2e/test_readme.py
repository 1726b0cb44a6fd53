"""What README.md tells a newcomer to paste works when pasted, and so does `make demo`."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.embedded import embedded_server
from tracker.v1 import tracker_service_pb2 as messages

_ROOT = Path(__file__).resolve().parents[2]
_README = (_ROOT / "README.md").read_text()
_ADDRESS = "127.0.0.1:50051"
_SECONDS = 150
_SHOWN = ["StartRun", "LogMetric", "LogMetrics", "RunCompleted", "GetSummary", "GetRun", "GetMetricHistory"]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)


def _lines(program: str) -> list[list[str]]:
    lines = [line for block in _blocks("sh") for line in block.splitlines()]
    return [words for words in map(shlex.split, lines) if words and words[0] == program]


_BUF = _lines(".venv/bin/buf")
_GRPCURL = _lines("grpcurl")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a fresh embedded server."""
    with embedded_server(tmp_path_factory.mktemp("server")) as address:
        yield address


def _run(command: list[str], **variables: str) -> str:
    done = subprocess.run(
        command,
        cwd=_ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _method(words: list[str]) -> str:
    return words[-1].rpartition("/")[2]


def _json(words: list[str]) -> Any:
    return json.loads(words[words.index("-d") + 1])


def test_the_calls_are_there() -> None:
    assert [_method(words) for words in _BUF] == _SHOWN
    for words in _BUF:
        assert words[-1] == f"http://{_ADDRESS}/tracker.v1.TrackerService/{_method(words)}"


def test_grpcurl_lines_say_the_same() -> None:
    """grpcurl itself is not at hand here; each of its lines is held against its twin."""
    assert len(_GRPCURL) == len(_BUF)
    for theirs, ours in zip(_GRPCURL, _BUF, strict=True):
        service, _, method = ours[-1].removeprefix(f"http://{_ADDRESS}/").partition("/")
        assert theirs[:2] == ["grpcurl", "-plaintext"]
        assert theirs[-2:] == [_ADDRESS, f"{service}/{method}"]
        assert _json(theirs) == _json(ours)


def test_buf_lines_work(address: str) -> None:
    answers = {_method(words): json.loads(_run([word.replace(_ADDRESS, address) for word in words])) for words in _BUF}
    assert answers["StartRun"]["runId"] == "hello"
    assert all(answers[name]["writeToken"] for name in _SHOWN[:4])
    summary = {metric["name"]: metric for metric in answers["GetSummary"]["metrics"]}
    assert summary["accuracy"]["max"] == {"value": 0.91, "runId": "hello"}
    assert summary["loss"] == {"name": "loss", "runCount": "1", "nonFiniteRunCount": "1"}
    loss = {metric["name"]: metric for metric in answers["GetRun"]["metrics"]}["loss"]
    assert (loss["count"], loss["last"]["value"]) == ("4", "NaN")
    assert (loss["min"], loss["max"]) == ({"value": 0.3, "step": "2"}, {"value": 0.5, "step": "0"})
    assert [series["values"] for series in answers["GetMetricHistory"]["series"]] == [
        [0.5, 0.4, 0.3, "NaN"],
        [0.8, 0.85, 0.9],
    ]


def test_json_answers_shown_have_the_fields_of_the_contract() -> None:
    for shown, request in zip(_blocks("json"), _SHOWN[:4], strict=True):
        response = getattr(messages, f"{request}Response").DESCRIPTOR
        assert set(json.loads(shown)) == {field.camelcase_name for field in response.fields}


def test_python_works(address: str, tmp_path: Path) -> None:
    (program,) = _blocks("python")
    expected = re.findall(r"print\(.*\)  # (.*)", program)
    variables = {"TRACKER_SERVER": address, "TRACKER_DIR": str(tmp_path)}
    printed = _run([sys.executable, "-W", "error", "-c", program], **variables)
    assert printed.splitlines() == expected == ["True"]


def test_terminal_lines_work(tmp_path: Path) -> None:
    """After the calls of the first run."""
    with embedded_server(tmp_path) as address:
        for words in _BUF:
            _run([word.replace(_ADDRESS, address) for word in words])
        _check_terminal_lines(address, tmp_path)


def _check_terminal_lines(address: str, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "metrics.csv").write_text("step,loss\n0,0.5\n1,0.25\n")
    variables = {"TRACKER_SERVER": address, "TRACKER_DIR": str(tmp_path)}
    places = {"path/to/logs": str(logs), "points.csv": str(tmp_path / "points.csv")}
    for words in _lines(".venv/bin/tracker"):
        command = [places.get(word, word) for word in words[: words.index("#") if "#" in words else None]]
        _run([sys.executable, "-m", "tracker_client.cli", *command[1:]], **variables)
    assert (tmp_path / "points.csv").read_text().count("\n") > 3


def test_demo_beside_a_running_tracker(address: str) -> None:
    printed = _run([sys.executable, "examples/demo.py"], TRACKER_SERVER=address, PYTHONIOENCODING="utf-8")
    assert f"at {address}" in printed
    assert "runs: 5 completed" in printed
    assert "Of 7,200 points logged 7,200 are stored; every writer is complete." in printed
    assert re.search(r"^Best learning rate: [\d.]+, with val/accuracy 0\.9\d+\.$", printed, re.MULTILINE)


def test_demo_with_a_tracker_of_its_own() -> None:
    program = "import examples.demo as demo; demo.DEFAULT_SERVER = '127.0.0.1:1'; demo.main()"
    printed = _run([sys.executable, "-c", program], TRACKER_SERVER="", PYTHONIOENCODING="utf-8")
    assert "starting one for as long as this takes" in printed
    assert "every writer is complete" in printed


def test_demo_says_when_the_tracker_named_is_not_there() -> None:
    done = subprocess.run(
        [sys.executable, "examples/demo.py"],
        cwd=_ROOT,
        env={**os.environ, "TRACKER_SERVER": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "no tracker answers at TRACKER_SERVER=127.0.0.1:1" in done.stderr
