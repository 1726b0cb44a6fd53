"""Curves of metrics: in the terminal by plotext, as PNG files by matplotlib."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker_client.cli.texts import number, one_line
from tracker_client.exporters.targets import open_target

COLORS = ("cyan", "yellow", "magenta", "green", "red", "blue")
"""Of the curves, in this order, again and again."""
_MARKS = ("•", "+", "x", "o", "*", "#")
"""What tells curves apart where there are no colours."""
_TICKS = 6
_DPI = 150
_MOST = 1e300
_MARKED_POINTS = 60
"""Pictures of curves with no more points mark each."""


@dataclass(frozen=True)
class Curve:
    """A metric to be drawn. Points that are not finite leave gaps."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]

    @property
    def finite(self) -> tuple[list[int], list[float], list[int]]:
        """Its finite points: steps, values, and at which of them a new stretch begins after a gap."""
        steps: list[int] = []
        values: list[float] = []
        breaks: list[int] = []
        gap = False
        for step, value in zip(self.steps, self.values, strict=True):
            if math.isfinite(value):
                if gap and steps:
                    breaks.append(len(steps))
                steps.append(int(step))
                values.append(float(value))
            gap = not math.isfinite(value)
        return steps, values, breaks


def terminal_plot(curves: Sequence[Curve], *, width: int, height: int, color: bool) -> str:
    """Lines of text, with the codes of colours where these are wanted. At least one point must be finite."""
    import plotext

    figure: Any = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.theme("colorless")
    ends: list[int] = []
    for index, curve in enumerate(curves):
        steps, values, breaks = curve.finite
        if not steps:
            continue
        symbol = "hd" if color or len(curves) == 1 else mark(index, len(curves))
        pixel = plotext.pixel(COLORS[index % len(COLORS)]) if color else plotext.pixel()
        signal = figure.signal(steps, list(map(_within_reach, values)), marker=plotext.marker(symbol, pixel)).lines()
        for position in breaks:
            signal.line(position, False)
        figure.draw(signal)
        ends += (min(steps), max(steps))
    ticks = step_ticks(min(ends), max(ends))
    figure.ruler("x").ticks(ticks, [f"{tick:,}" for tick in ticks])
    return str(figure.build().string(colorless=not color)).rstrip("\n")


def mark(index: int, curves: int) -> str:
    """What stands for a curve where there are no colours, in the plot and below it."""
    return _MARKS[index % len(_MARKS)] if curves > 1 else "▚"


def step_ticks(first: int, last: int) -> list[int]:
    """Round steps to be written below a curve, at most six."""
    span = last - first
    if span <= 0:
        return [first]
    size = 1
    while span // size >= _TICKS:
        # 1, 2, 5, 10, 20, 50, …
        size = size * 5 // 2 if str(size).startswith("2") else size * 2
    start = -(-first // size) * size
    return list(range(start, last + 1, size))


def save_plot(curves: Sequence[Curve], path: Path, *, title: str) -> None:
    """Draws a PNG. Raises OSError, and ModuleNotFoundError without matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        # Not finite ones leave gaps; points that stand alone would not be seen without a mark.
        style = "." if len(curve.steps) <= _MARKED_POINTS else ""
        values = [_within_reach(value) if math.isfinite(value) else math.nan for value in curve.values]
        axes.plot(curve.steps, values, linewidth=1.2, marker=style, label=_label(curve.name))
    axes.set_title(_label(title))
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if len(curves) == 1:
        axes.set_ylabel(_label(curves[0].name))
    else:
        axes.legend()
    with open_target(path) as file, warnings.catch_warnings():
        # Of letters that its font does not have, and of ranges beyond what floats can subtract.
        warnings.simplefilter("ignore")
        figure.savefig(file, format="png")


def _within_reach(value: float) -> float:
    """Axes compute with differences of values, which must be finite too."""
    return max(-_MOST, min(_MOST, value))


def _label(text: str) -> str:
    """As it is: matplotlib takes $ for formulas, and leaves out what begins with an underscore."""
    label = one_line(text).replace("$", r"\$")
    return f" {label}" if label.startswith("_") else label


def describe(curve: Curve) -> str:
    """A curve in one line: its range and its end."""
    _, finite, _ = curve.finite
    if not len(curve.values):
        return f"{one_line(curve.name)}: no points"
    text = f"{one_line(curve.name)}: last {number(curve.values[-1])}"
    if finite:
        text += f", min {number(min(finite))}, max {number(max(finite))}"
    gaps = len(curve.values) - len(finite)
    return f"{text}, {gaps:,} not finite" if gaps else text
