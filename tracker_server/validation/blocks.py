"""The rules of blocks of points. The hot path: whole blocks are judged at once, and walked only when one is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import numpy as np

from tracker.v1.resources_pb2 import MetricBlock
from tracker_server import limits
from tracker_server.validation.fields import CONTROL, check_name
from tracker_server.validation.violations import Violations, shown


def check_blocks(violations: Violations, blocks: Sequence[MetricBlock]) -> None:
    """Adds what is wrong with the field `blocks`."""
    points = 0
    for index, block in enumerate(blocks):
        rows = len(block.steps)
        if not rows:
            violations.add(f"blocks[{index}].steps", "is empty; a block must have at least one step")
        if block.times_unix_ms:
            _check_times(violations, index, rows, block.times_unix_ms)
        points += _check_columns(violations, index, rows, block)
    if points > limits.MAX_POINTS_PER_REQUEST:
        violations.add(
            "blocks",
            f"have {points} points; at most {limits.MAX_POINTS_PER_REQUEST} are taken in one request: split it",
        )


def _check_times(violations: Violations, index: int, rows: int, times: Sequence[int]) -> None:
    field = f"blocks[{index}].times_unix_ms"
    if len(times) != rows:
        violations.add(field, f"has {len(times)} times for {rows} steps; give one for each step, or none at all")
    lowest: int
    highest: int
    if len(times) <= _FEW:
        lowest, highest = min(times), max(times)
    else:
        array = np.array(times, np.int64)
        lowest, highest = int(array.min()), int(array.max())
    if lowest >= limits.MIN_TIME_MS and highest <= limits.MAX_TIME_MS:
        return
    wrong, value = next(
        (position, time) for position, time in enumerate(times) if not limits.MIN_TIME_MS <= time <= limits.MAX_TIME_MS
    )
    violations.add(
        f"{field}[{wrong}]",
        f"is {value}; each must be {limits.MIN_TIME_MS} to {limits.MAX_TIME_MS} ms: from year 1 to 9999",
    )


def _check_columns(violations: Violations, index: int, rows: int, block: MetricBlock) -> int:
    """Returns how many values there are."""
    columns = list(block.columns)
    names = list(map(_name, columns))
    counts = list(map(len, map(_values, columns)))
    if not names:
        violations.add(f"blocks[{index}].columns", "is empty; a block must have at least one column")
        return 0
    if len(set(names)) != len(names) or _any_wrong(names):
        _name_the_wrong_ones(violations, index, names)
    if counts.count(rows) != len(counts):
        for position, count in enumerate(counts):
            if count != rows:
                violations.add(
                    f"blocks[{index}].columns[{position}].values",
                    f"has {count} values for {rows} steps; give one for each step",
                )
    return sum(counts)


def _any_wrong(names: list[str]) -> bool:
    lengths = list(map(len, names))
    if not min(lengths) or max(lengths) > limits.MAX_NAME_LENGTH:
        return True
    everything = "".join(names)
    # A fast answer for nearly all names; what is not printable need not be a control character.
    return not everything.isprintable() and CONTROL.search(everything) is not None


def _name_the_wrong_ones(violations: Violations, index: int, names: list[str]) -> None:
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        field = f"blocks[{index}].columns[{position}].name"
        check_name(violations, field, name)
        earlier = first.setdefault(name, position)
        if earlier != position:
            violations.add(
                field, f"is {shown(name)}, as columns[{earlier}] is; one block has one column for each metric"
            )


_name = attrgetter("name")
_values = attrgetter("values")
_FEW = 32
"""Times up to which plain min and max are faster than an array."""
