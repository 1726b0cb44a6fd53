"""What the metrics of an experiment mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

_Definition = TypeVar("_Definition")


def definition_name(metric: str, definitions: Mapping[str, _Definition]) -> str | None:
    """Which definition holds for a metric: its own, else that of the longest beginning (followed by *); None: none."""
    if metric in definitions:
        return metric
    fitting = [name for name in definitions if name.endswith("*") and metric.startswith(name[:-1])]
    return max(fitting, key=len, default=None)
