"""Collects points and cuts them into blocks that fit into one request."""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tracker_client.importers.records import Block, Points, Problem
from tracker_client.importers.values import MAX_STEP, MIN_STEP

MAX_BYTES = 1024 * 1024
"""Every server takes a request of this size."""
MAX_NAME_LENGTH = 256
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_RESERVED_BYTES = 4 * 1024
"""For the ids of a request and its framing."""
_POINT_BYTES = 24
_SERIES_BYTES = 64
"""A column's and a block's framing, beside the name."""


@dataclass(slots=True)
class _Series:
    steps: array[int] = field(default_factory=lambda: array("q"))
    times_ms: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


class PointBuffer:
    """Takes points in any order. What it gives depends on nothing but the points."""

    def __init__(self, path: str, fallback_ms: int) -> None:
        """path: of the source, for problems. fallback_ms: the time of points that have none."""
        self._path = path
        self._fallback_ms = fallback_ms
        self._series: dict[str, _Series] = {}
        self._bytes = _RESERVED_BYTES
        self._good_names: set[str] = set()
        self._bad_names: Counter[str] = Counter()
        self._bad_steps: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether it is time to `take`."""
        return self._bytes + _POINT_BYTES + _SERIES_BYTES + 4 * MAX_NAME_LENGTH > MAX_BYTES

    def add(self, name: str, step: int, time_ms: int | None, value: float) -> None:
        """One point. Not to be called while full."""
        if name not in self._good_names and not self._learn(name):
            self._bad_names[name] += 1
            return
        if not MIN_STEP <= step <= MAX_STEP:
            self._bad_steps[name] += 1
            return
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = _Series()
            self._bytes += _SERIES_BYTES + len(name.encode())
        series.steps.append(step)
        series.times_ms.append(self._fallback_ms if time_ms is None else time_ms)
        series.values.append(value)
        self._bytes += _POINT_BYTES

    def take(self) -> Iterator[Points]:
        """What was collected since the last time: at most one, none when there is nothing."""
        groups: dict[tuple[bytes, bytes], dict[str, _Series]] = defaultdict(dict)
        for name, series in self._series.items():
            groups[series.steps.tobytes(), series.times_ms.tobytes()][name] = series
        blocks = []
        for group in groups.values():
            first = next(iter(group.values()))
            blocks.append(Block(first.steps, first.times_ms, {name: series.values for name, series in group.items()}))
        self._series, self._bytes = {}, _RESERVED_BYTES
        if blocks:
            yield Points(tuple(blocks))

    def problems(self) -> Iterator[Problem]:
        """What had to be left out, once for each name."""
        for name, count in self._bad_names.items():
            yield Problem(self._path, f"{why_refused(name)}; {count} points left out", f"metric {name[:60]!r}")
        for name, count in self._bad_steps.items():
            yield Problem(
                self._path, f"steps that do not fit into 64 bits; {count} points left out", f"metric {name!r}"
            )

    def _learn(self, name: str) -> bool:
        if why_refused(name):
            return False
        self._good_names.add(name)
        return True


def why_refused(name: str) -> str:
    """Why servers refuse a metric's name; empty when they do not."""
    if not name:
        return "the name is empty"
    if len(name) > MAX_NAME_LENGTH:
        return f"the name has {len(name)} characters, at most {MAX_NAME_LENGTH} are taken"
    if found := _CONTROL.search(name):
        return f"the name has the control character U+{ord(found[0]):04X}"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the name is no valid Unicode text"
    return ""
