"""Values as texts: numbers, times, durations, and texts of others that must not control the terminal."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from tracker.v1.resources_pb2 import MetricGoal, RunStatus

NOTHING = "–"  # noqa: RUF001  # the dash of tables
_ESCAPES = {chr(code): repr(chr(code))[1:-1] for code in (*range(32), 127)} | {"\\": r"\\"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def number(value: float) -> str:
    """For people: six digits; NaN, Inf and -Inf as such."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return f"{value:.6g}"


def exact(value: float) -> str:
    """For programs: every digit; NaN, Infinity and -Infinity as in protobuf's JSON."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def count(value: int) -> str:
    """For people: 12,345."""
    return f"{value:,}"


def plural(value: int, noun: str) -> str:
    """`1 run`, `12,345 runs`."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def status(value: RunStatus.ValueType) -> str:
    """Such as `completed`; a number for one that is newer than this client."""
    if value not in RunStatus.values():
        return str(value)
    return RunStatus.Name(value).removeprefix("RUN_STATUS_").lower()


def goal(value: MetricGoal.ValueType) -> str:
    """Such as `minimize`; empty for none."""
    if value not in MetricGoal.values():
        return str(value)
    return MetricGoal.Name(value).removeprefix("METRIC_GOAL_").replace("UNSPECIFIED", "").lower()


def instant(stamp: Timestamp) -> datetime:
    """In UTC."""
    return stamp.ToDatetime(UTC)


def instant_of(time_unix_ms: int) -> datetime | None:
    """In UTC; None outside of the years that Python knows."""
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_unix_ms)
    except OverflowError:
        return None


def local(when: datetime, *, seconds: bool = True) -> str:
    """For people: in the time zone of this machine."""
    try:
        when = when.astimezone()
    except (OverflowError, OSError, ValueError):
        # The first and last days that there are: they have no other zone.
        return rfc3339(when)
    return when.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def rfc3339(when: datetime) -> str:
    """For programs: 2026-11-25T07:06:05.123Z."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """For people: its two largest units, such as `1 h 5 min`."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        amount, left = divmod(left, size)
        if amount or (parts and len(parts) < 2):
            parts.append(f"{amount} {unit}")
        if len(parts) == 2:
            break
    shown = [part for part in parts if not part.startswith("0 ")]
    return " ".join(shown) or "0 s"


def visible(text: str) -> str:
    """Without characters that would control a terminal; they are shown as escapes."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)


def one_line(text: str, width: int = 0) -> str:
    """Visible, on one line, and cut at this many characters unless that is 0."""
    line = visible(text).replace("\n", "⏎")
    return line if not width or len(line) <= width else f"{line[: width - 1]}…"


def end_of(path: str, width: int) -> str:
    """The last so many characters of a path, which tell more than the first."""
    line = one_line(path)
    return line if len(line) <= width else f"…{line[1 - width :]}"


def field(text: str) -> str:
    r"""For a column of tab-separated lines: tab, line breaks and backslash as \t, \n, \r and \\, control characters
    as \x1b.
    """
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def literal(value: Any) -> str:
    """A config's value: texts as they are, the rest as JSON, with 4 and 4.0 told apart."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested maps as one, keys joined with a dot. Empty maps stay as values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
