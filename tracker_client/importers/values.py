"""From text and JSON to numbers, steps and moments."""

from __future__ import annotations

import math
from datetime import UTC, datetime

MIN_STEP = -(2**63)
MAX_STEP = 2**63 - 1
MIN_TIME_MS = -62_135_596_800_000
MAX_TIME_MS = 253_402_300_799_999
"""Years 1 to 9999, as servers take them."""
_BOOLS = {"True": 1.0, "true": 1.0, "False": 0.0, "false": 0.0}
_FIRST_MOMENT_S = 3e8
"""Smaller numbers are seconds since some start, not since 1970."""
_LAST_MOMENT_S = 1e10


def parse_number(text: str) -> float | None:
    """The number that a cell holds, NaN, the infinities and booleans (as 1 and 0) included; None for other text."""
    try:
        number = float(text)
    except ValueError:
        return _BOOLS.get(text.strip())
    # Python's own 1_000 is no number in anybody's log.
    return None if "_" in text else number


def as_number(value: object) -> float | None:
    """The same for a value of JSON. Text is no number there."""
    if not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def parse_step(text: str) -> int | None:
    """The step that a cell holds, written as an integer or as 3.0 or 1e6; None when it is none of 64 bits."""
    try:
        step = int(text)
    except ValueError:
        number = parse_number(text)
        return None if number is None else as_step(number)
    return step if MIN_STEP <= step <= MAX_STEP and "_" not in text else None


def as_step(value: object) -> int | None:
    """The step that a value of JSON is; None when it is none of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_integral(value):
        return None
    step = int(value)
    return step if MIN_STEP <= step <= MAX_STEP else None


def is_integral(number: float) -> bool:
    """Whether a number is whole and finite."""
    return math.isfinite(number) and number == int(number)


def seconds_to_ms(seconds: float) -> int | None:
    """A moment in seconds since 1970 as milliseconds; None where no server takes it."""
    if not math.isfinite(seconds):
        return None
    moment = round(seconds * 1_000)
    return moment if MIN_TIME_MS <= moment <= MAX_TIME_MS else None


def parse_moment(text: str) -> int | None:
    """Milliseconds since 1970 of a cell in seconds, milliseconds or ISO 8601 (UTC unless it says so); else None."""
    number = parse_number(text)
    if number is not None:
        return as_moment(number)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def as_moment(value: object) -> int | None:
    """Milliseconds since 1970 of a number in seconds or milliseconds, or of a text; None when it is no moment."""
    if isinstance(value, str):
        return parse_moment(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if _FIRST_MOMENT_S <= value < _LAST_MOMENT_S:
        return round(value * 1_000)
    return round(value) if _FIRST_MOMENT_S <= value / 1_000 < _LAST_MOMENT_S else None
