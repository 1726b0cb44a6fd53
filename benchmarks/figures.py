"""What is measured, and how it is shown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("grpcio", "protobuf", "pika", "sqlalchemy", "psycopg2-binary", "redis", "numpy")


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table."""

    name: str
    value: float
    unit: str
    baseline: str = ""
    """What it is held against."""
    baseline_value: float | None = None
    bar: str = ""
    """What is to be reached."""
    reached: bool | None = None
    """Whether it is; None when there is no bar."""

    @property
    def ratio(self) -> float | None:
        """To the baseline."""
        return self.value / self.baseline_value if self.baseline_value else None


def table(figures: Iterable[Figure]) -> str:
    """As Markdown."""
    lines = ["| figure | value | baseline | ratio | bar | |", "|---|---|---|---|---|---|"]
    for one in figures:
        baseline = f"{one.baseline}: {_number(one.baseline_value)}" if one.baseline_value is not None else ""
        ratio = f"{one.ratio:.3g}" if one.ratio is not None else ""
        reached = {True: "reached", False: "missed", None: ""}[one.reached]
        lines.append(f"| {one.name} | {_number(one.value)} {one.unit} | {baseline} | {ratio} | {one.bar} | {reached} |")
    return "\n".join(lines)


def machine() -> str:
    """Where it was measured, in a line."""
    cores = len(os.sched_getaffinity(0))
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"{cores} cores ({platform.machine()}), Python {platform.python_version()}, {packages}"


def write_json(figures: Iterable[Figure], path: Path) -> None:
    """For programs."""
    rows = [{**asdict(one), "ratio": one.ratio} for one in figures]
    path.write_text(json.dumps({"machine": machine(), "figures": rows}, indent=2) + "\n", encoding="utf-8")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
