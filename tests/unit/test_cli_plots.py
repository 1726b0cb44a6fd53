"""Curves in the terminal: the points that were given, gaps where values are not finite, round steps below."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tracker_client.cli.plots import Curve, describe, save_plot, step_ticks, terminal_plot

_NAN = math.nan


@pytest.mark.parametrize(
    ("first", "last", "ticks"),
    [
        (0, 5, [0, 1, 2, 3, 4, 5]),
        (0, 1_000, [0, 200, 400, 600, 800, 1_000]),
        (7, 93, [20, 40, 60, 80]),
        (-5, 3, [-4, -2, 0, 2]),
        (8, 8, [8]),
        (0, 2**62, [0, 10**18, 2 * 10**18, 3 * 10**18, 4 * 10**18]),
    ],
)
def test_steps_below_are_round(first: int, last: int, ticks: list[int]) -> None:
    assert step_ticks(first, last) == ticks


@pytest.mark.parametrize("span", [*range(1, 200), 10**6 + 1, 10**12 - 1])
def test_steps_below_are_few(span: int) -> None:
    assert 2 <= len(step_ticks(0, span)) <= 6


def test_gaps_are_not_drawn_over() -> None:
    curve = Curve("loss", list(range(8)), [_NAN, 1.0, 2.0, _NAN, math.inf, 3.0, 4.0, _NAN])
    assert curve.finite == ([1, 2, 5, 6], [1.0, 2.0, 3.0, 4.0], [2])


@pytest.mark.parametrize("color", [True, False])
@pytest.mark.parametrize("curves", [1, 3])
def test_a_plot_has_its_size_and_its_ends(color: bool, curves: int) -> None:
    steps = list(range(100))
    drawn = terminal_plot(
        [Curve(f"m{number}", steps, [step * (number + 1.0) for step in steps]) for number in range(curves)],
        width=70,
        height=15,
        color=color,
    )
    assert len(drawn.splitlines()) == 15
    assert ("\x1b[" in drawn) is color
    assert "80" in drawn.splitlines()[-1]
    if not color:
        assert all(len(line) == 70 for line in drawn.splitlines())
        assert ("•" in drawn) is (curves > 1)


@pytest.mark.parametrize(
    ("steps", "values"),
    [
        ([5], [0.3]),
        ([5, 5, 5], [0.1, 0.2, 0.3]),
        ([0, 1], [2.0, 2.0]),
        ([-(2**63), 2**63 - 1], [1.7e308, -1.7e308]),
        ([0, 1], [5e-324, 1.7e308]),
    ],
)
def test_odd_curves_can_be_drawn(steps: list[int], values: list[float]) -> None:
    assert terminal_plot([Curve("odd", steps, values)], width=60, height=10, color=False)


@pytest.mark.parametrize("name", ["loss", "_hidden", "$x_$ or $", "损失"])
@pytest.mark.parametrize("values", [[0.5], [_NAN, _NAN], [1.7e308, -1.7e308], []])
def test_odd_pictures_can_be_drawn(tmp_path: Path, name: str, values: list[float]) -> None:
    curve = Curve(name, range(len(values)), values)
    for curves in ([curve], [curve, curve]):
        save_plot(curves, tmp_path / "x.png", title=name)
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, 0.5, 0.75], "loss: last 0.75, min 0.5, max 1"),
        ([1.0, _NAN], "loss: last NaN, min 1, max 1, 1 not finite"),
        ([math.inf], "loss: last Inf, 1 not finite"),
        ([], "loss: no points"),
    ],
)
def test_curves_in_words(values: list[float], said: str) -> None:
    assert describe(Curve("loss", range(len(values)), values)) == said
