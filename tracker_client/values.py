"""From what training code has at hand to rows of numbers: the slow and forgiving way, for what is not simply floats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from tracker_client.journal.writer import check_names

_DEEPEST: Final = 32
_MIN_STEP: Final = -(2**63)
_MAX_STEP: Final = 2**63 - 1
_MIN_TIME_MS: Final = -62_135_596_800_000
_MAX_TIME_MS: Final = 253_402_300_799_999
"""Years 1 to 9999: what servers take."""


def clean_metrics(metrics: object) -> tuple[dict[str, float], list[str]]:
    """The numbers of a mapping, nested ones with their names joined by "/"; and what is wrong with the rest."""
    if not isinstance(metrics, Mapping):
        return {}, [f"log() was given a {_type_name(metrics)}; it takes a dict of metric names to numbers"]
    numbers: dict[str, float] = {}
    problems: list[str] = []
    for name, value in _flat(metrics, "", 1):
        try:
            check_names((name,))
            numbers[name] = number(value)
        except (TypeError, ValueError) as error:
            problems.append(str(error) if str(error).startswith("the metric name") else f"metric {name!r}: {error}")
    return numbers, problems


def number(value: object) -> float:
    """One number as a float: of Python, NumPy, PyTorch and the like. Raises TypeError or ValueError, in words."""
    if isinstance(value, str | bytes) or value is None:
        raise TypeError(f"{_shown(value)} is of type {_type_name(value)}; a metric's value is a number")
    item = getattr(value, "item", None)
    if callable(item):
        try:
            value = item()
        except Exception as error:
            shape = getattr(value, "shape", None)
            raise TypeError(f"a {_type_name(value)} of shape {tuple(shape or ())} is no single number") from error
    if isinstance(value, complex):
        raise TypeError(f"{value!r} is complex; log its parts")
    try:
        return float(value)  # type: ignore[arg-type]  # whatever float() takes is welcome
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]  # an int that no float can hold
    except (TypeError, ValueError):
        raise TypeError(f"{_shown(value)} is of type {_type_name(value)}; a metric's value is a number") from None


def clean_step(step: object) -> int:
    """A step as an int. Raises ValueError, in words."""
    item = getattr(step, "item", None)
    value: Any = item() if callable(item) else step
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        whole = value.__index__()
    except AttributeError:
        raise ValueError(f"step is {_shown(step)} of type {_type_name(step)}; it must be a whole number") from None
    if not _MIN_STEP <= whole <= _MAX_STEP:
        raise ValueError(f"step is {whole}; it must fit into 64 bits")
    return int(whole)


def clean_time(time: object) -> int:
    """A time (seconds since 1970, or a datetime with its time zone) as milliseconds. Raises ValueError, in words."""
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise ValueError(f"time is {time.isoformat()} without a time zone; give it one")
        time = time.timestamp()
    try:
        milliseconds = math.floor(number(time) * 1000)
    except (TypeError, OverflowError, ValueError):
        raise ValueError(f"time is {_shown(time)}; it must be seconds since 1970, or a datetime") from None
    if not _MIN_TIME_MS <= milliseconds <= _MAX_TIME_MS:
        raise ValueError(f"time is {_shown(time)}; it must be within the years 1 to 9999, in seconds")
    return milliseconds


def halves(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """A row in two."""
    items = list(metrics.items())
    middle = len(items) // 2
    return dict(items[:middle]), dict(items[middle:])


def _flat(metrics: Mapping[Any, object], prefix: str, depth: int) -> Iterator[tuple[str, object]]:
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < _DEEPEST:
            yield from _flat(value, f"{name}/", depth + 1)
        else:
            yield name, value


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever a value does when it is shown, it is only shown
        return "a value"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _type_name(value: object) -> str:
    return type(value).__name__
