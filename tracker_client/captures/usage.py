"""Two readings of a machine's counters, and what lies between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One reading."""

    at: float
    """When, by a monotonic clock, in seconds."""
    levels: Mapping[str, float]
    """What is meaningful by itself, such as memory in use."""
    cpu_busy: float
    """Processor time spent by the machine, in seconds, over all processors."""
    cpu_total: float
    """The same with the time in which processors were idle."""
    process_cpu: float
    """Processor time spent by the process, in seconds."""
    counters: Mapping[str, float] = field(default_factory=dict)
    """What only grows, such as bytes sent."""


def shares(before: Usage, after: Usage) -> dict[str, float]:
    """Percentages: of the machine's processors (100: all are busy), and of one by the process (100: one is)."""
    found: dict[str, float] = {}
    if after.cpu_total > before.cpu_total:
        busy = (after.cpu_busy - before.cpu_busy) / (after.cpu_total - before.cpu_total)
        found["cpu_percent"] = 100 * min(1.0, max(0.0, busy))
    if after.at > before.at and after.process_cpu >= before.process_cpu:
        found["process_cpu_percent"] = 100 * (after.process_cpu - before.process_cpu) / (after.at - before.at)
    return found


def rates(before: Usage, after: Usage) -> dict[str, float]:
    """Counters per second. One that went backwards, as when a disk was taken away, is left out."""
    seconds = after.at - before.at
    return {
        f"{name}_per_second": (value - before.counters[name]) / seconds
        for name, value in after.counters.items()
        if seconds > 0 and value >= before.counters.get(name, float("inf"))
    }
