"""What the drivers' answers say of a tracker: figures, and the reason wherever there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Answers = Iterable[Mapping[str, Any]]
"""Lines of drivers, see driver.py."""

FIGURES: Final[Mapping[str, tuple[str, str, bool]]] = {
    "bulk": ("points/s", "bulk, points/s", True),
    "long": ("points/s", "long bulk, points/s", True),
    "call_1": ("s", "log call of 1 metric, median", False),
    "call_1_p99": ("s", "p99", False),
    "call_10": ("s", "log call of 10 metrics, median", False),
    "call_10_p99": ("s", "p99", False),
    "summary": ("s", "a run's summary", False),
    "history": ("s", "history", False),
    "bytes": ("bytes/point", "bytes a point", False),
    "lost": ("points", "lost on SIGKILL", False),
}
"""Each figure's unit, its title, and whether more is better."""
_LOOPS: Final = {"loop-1": "call_1", "loop-10": "call_10"}
_RUN_FIGURES: Final = {
    "bulk": ("bulk", "bytes"),
    "long": ("long",),
    "history": (),
    "loop-1": ("call_1", "call_1_p99"),
    "loop-10": ("call_10", "call_10_p99"),
    "kill": ("lost",),
}
"""The figures that come from writing a run."""


@dataclass(slots=True)
class Result:
    """Of a tracker, logged to in one way."""

    key: str
    name: str
    way: str
    how: str
    ours: bool
    versions: Mapping[str, str]
    figures: dict[str, float] = field(default_factory=dict)
    """By a key of FIGURES."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why a figure is not there; "" for all of them."""
    logged: int = 0
    """Points that were logged in all runs but the killed one."""
    found: int = 0
    """How many of them were read back, with the right value."""
    killed_after: int = 0
    """Points that had been logged when the client was killed."""
    recovered: str = ""
    """What of a killed client's points took something to be done, and what."""
    answers: list[dict[str, Any]] = field(default_factory=list)
    """All that the drivers said."""

    @property
    def verified(self) -> bool:
        """Whether every point of every run that was not killed was read back."""
        return 0 < self.logged == self.found


def evaluate(result: Result, answers: Answers) -> Result:
    """Fills in figures, what is missing, and what was verified. A figure of a run that was not all there is none."""
    result.answers = [dict(answer) for answer in answers]
    for answer in result.answers:
        _take(result, answer)
    for answer in result.answers:
        if answer["task"] == "count" and "found" in answer:
            _verify(result, answer)
    return result


def _take(result: Result, answer: Mapping[str, Any]) -> None:
    task, run = answer["task"], answer["run"]
    figures = result.figures
    if reason := answer.get("error") or answer.get("not_offered"):
        for name in _figures_of(task, run):
            figures.pop(name, None)
            result.missing[name] = reason
    elif task == "bulk" and run in ("bulk", "long"):
        figures[run] = answer["points"] / answer["seconds"]
        if run == "bulk":
            figures["bytes"] = answer["bytes"] / answer["points"]
    elif task == "loop":
        figures[_LOOPS[run]], figures[f"{_LOOPS[run]}_p99"] = answer["median"], answer["p99"]
    elif task in ("summary", "history"):
        figures[task] = answer["median"]
        if answer.get("found") != answer.get("points"):
            del figures[task]
            result.missing[task] = f"{answer['found']:,} of {answer['points']:,} points were right"
    elif task == "count_killed":
        figures["lost"] = answer["points"] - answer.get("found_then", answer["found"])
        result.killed_after = answer["points"]
        if "recovery" in answer:
            result.recovered = f"{answer['found_then'] - answer['found']:,} of them only after {answer['recovery']}"


def _verify(result: Result, answer: Mapping[str, Any]) -> None:
    result.logged += answer["points"]
    result.found += answer["found"]
    if answer["found"] != answer["points"]:
        for name in _figures_of("bulk", answer["run"]):
            result.figures.pop(name, None)
            result.missing[name] = f"{answer['found']:,} of {answer['points']:,} points were read back"


def _figures_of(task: str, run: str) -> tuple[str, ...]:
    if task in ("summary", "history"):
        return (task,)
    if task == "bulk" and run == "history":
        return ("history",)
    return _RUN_FIGURES.get(run, ())


def ratio(figure: str, ours: Result, peer: Result) -> float | None:
    """How many times better ours is; None where one of them has no such figure, or it is nothing."""
    mine, other = ours.figures.get(figure), peer.figures.get(figure)
    if not mine or not other:
        return None
    return mine / other if FIGURES[figure][2] else other / mine
