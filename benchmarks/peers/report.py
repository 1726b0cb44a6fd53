"""The results for people, as Markdown, and for programs, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks.figures import machine
from benchmarks.peers.results import FIGURES, Result, ratio
from benchmarks.peers.work import METRICS, Work

_COLUMNS: Final = ("bulk", "long", "call_1", "call_10", "summary", "history", "bytes", "lost")


def reference(results: Sequence[Result]) -> Result | None:
    """What peers are held against: the first of ours that was measured, which is the full form's run.log()."""
    return next((one for one in results if one.ours and one.figures), None)


def report(results: Sequence[Result], work: Work, load: float) -> str:
    """The whole of it. load: the machine's load average before it began."""
    ours = reference(results)
    parts = [f"{machine()}; load average before it began: {load:.1f}", _figures(results, work)]
    if ours is not None and any(not one.ours for one in results):
        parts.append(f"How many times better {ours.name}, {ours.way}, is than each, in this run:")
        parts.append(_ratios(results, ours, work))
    parts.append("\n".join(_notes(results)))
    return "\n\n".join(part for part in parts if part)


def write_json(results: Sequence[Result], work: Work, load: float, path: Path) -> None:
    """For programs."""
    ours = reference(results)
    rows = [
        {
            **asdict(one),
            "verified": one.verified,
            "ratios": {name: ratio(name, ours, one) for name in FIGURES} if ours else {},
        }
        for one in results
    ]
    whole = {"machine": machine(), "load_average": load, "work": asdict(work), "results": rows}
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def titles(work: Work) -> dict[str, str]:
    """Of the columns."""
    return {
        "bulk": f"{work.bulk_steps * METRICS:,} points, points/s",
        "long": f"{work.long_steps * METRICS:,} points, points/s",
        "call_1": "log call, 1 metric: median / p99",
        "call_10": f"log call, {METRICS} metrics: median / p99",
        "summary": "a run's summary",
        "history": f"history of {work.history_steps:,} points",
        "bytes": "bytes a point",
        "lost": "lost when killed",
    }


def _figures(results: Sequence[Result], work: Work) -> str:
    names = titles(work)
    lines = [_row("tracker", "way", *(names[column] for column in _COLUMNS), "read back")]
    lines.append(_row(*["---"] * (len(_COLUMNS) + 3)))
    for one in results:
        read_back = f"{one.found:,} of {one.logged:,}" if one.logged else ""
        lines.append(_row(one.name, one.way, *(_cell(one, column) for column in _COLUMNS), read_back))
    return "\n".join(lines)


def _ratios(results: Sequence[Result], ours: Result, work: Work) -> str:
    columns = [column for column in _COLUMNS if column != "lost"]
    names = titles(work)
    lines = [_row("tracker", "way", *(names[column].replace(" / p99", "") for column in columns))]
    lines.append(_row(*["---"] * (len(columns) + 2)))
    for one in results:
        if not one.ours:
            times = (ratio(column, ours, one) for column in columns)
            lines.append(_row(one.name, one.way, *("" if each is None else f"{each:.3g}" for each in times)))
    return "\n".join(lines)


def _notes(results: Sequence[Result]) -> list[str]:
    """How each was used, and why a figure is missing."""
    lines = []
    for one in results:
        versions = ", ".join(f"{name} {version}" for name, version in one.versions.items())
        lines.append(f"- {one.name}, {one.way}: {one.how}{f' ({versions})' if versions else ''}")
        if one.recovered:
            lines.append(f"  - when killed: {one.recovered}")
        lines += [
            f"  - no {_titled(name)}: {reason}" for name, reason in one.missing.items() if not name.endswith("_p99")
        ]
    return lines


def _titled(name: str) -> str:
    return FIGURES[name][1] if name else "figures"


def _cell(result: Result, column: str) -> str:
    figure = result.figures.get(column)
    if figure is None:
        return "none" if column in result.missing or "" in result.missing else ""
    if column in ("call_1", "call_10"):
        return f"{_time(figure)} / {_time(result.figures[f'{column}_p99'])}"
    if column == "lost":
        return f"{figure:,.0f} of {result.killed_after:,}"
    return _time(figure) if FIGURES[column][0] == "s" else f"{figure:,.0f}"


def _time(seconds: float) -> str:
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
