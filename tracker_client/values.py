"""From what training code has at hand to rows of numbers: the slow and forgiving way, for what is not simply floats."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from tracker_client.journal.schema import check_names

_DEEPEST: Final = 32
_MIN_STEP: Final = -(2**63)
MAX_STEP: Final = 2**63 - 1
_MIN_TIME_MS: Final = -62_135_596_800_000
_MAX_TIME_MS: Final = 253_402_300_799_999
"""Years 1 to 9999: what servers take."""
_TEXTS: Final = (str, bytes, bytearray, memoryview)


def clean_metrics(metrics: object) -> tuple[dict[str, float], dict[str, str]]:
    """The numbers of a mapping, nested ones with their names joined by "/"; and by name what is wrong with the rest.

    What is wrong with all of it has an empty name.
    """
    if not isinstance(metrics, Mapping):
        return {}, {"": f"log() was given a {_type_name(metrics)}; it takes a dict of metric names to numbers"}
    numbers: dict[str, float] = {}
    problems: dict[str, str] = {}
    try:
        for name, value in _flat(metrics, "", ()):
            try:
                check_names((name,))
                numbers[name] = number(value)
            except (TypeError, ValueError) as error:
                named = str(error).startswith("the metric name")
                problems[name] = str(error) if named else f"metric {name!r}: {error}"
    except Exception as error:  # noqa: BLE001 - a mapping or a key of somebody else's making may raise anything
        problems[""] = f"log() was given a {_type_name(metrics)} that cannot be read: {error}"
    return numbers, problems


def number(value: object) -> float:
    """One number as a float: of Python, NumPy, PyTorch and the like. Raises TypeError or ValueError, in words."""
    single = _single(value)
    if isinstance(single, complex):
        raise TypeError(f"{single!r} is complex; log its parts")
    try:
        # float() reads texts, and whatever lends its bytes, too.
        if isinstance(single, _TEXTS):
            raise TypeError
        return float(single)  # type: ignore[arg-type]  # whatever else float() takes is welcome
    except OverflowError:
        return math.inf if single > 0 else -math.inf  # type: ignore[operator]  # an int that no float can hold
    except Exception:  # noqa: BLE001 - of somebody else's making, it may raise anything
        raise TypeError(f"{_shown(value)} is of type {_type_name(value)}; a metric's value is a number") from None


def clean_step(step: object) -> int:
    """A step as an int. Raises ValueError, in words."""
    try:
        value: Any = _single(step)
        whole = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except Exception:  # noqa: BLE001 - of somebody else's making, it may raise anything
        raise ValueError(f"step is {_shown(step)} of type {_type_name(step)}; it must be a whole number") from None
    if not _MIN_STEP <= whole <= MAX_STEP:
        raise ValueError(f"step is {_shown(whole)}; it must fit into 64 bits")
    return whole


def clean_time(time: object) -> int:
    """A time (seconds since 1970, or a datetime with its time zone) as milliseconds. Raises ValueError, in words."""
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise ValueError(f"time is {time.isoformat()} without a time zone; give it one")
        time = time.timestamp()
    try:
        # Rounded: 1.7e9 + 0.123 is, as a float, a little less than that.
        milliseconds = round(number(time) * 1000)
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


def _flat(metrics: Mapping[Any, object], prefix: str, above: tuple[int, ...]) -> Iterator[tuple[str, object]]:
    """Names and values. above: the ids of the mappings around it, of which none is gone into again."""
    above = (*above, id(metrics))
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and len(above) < _DEEPEST and id(value) not in above:
            yield from _flat(value, f"{name}/", above)
        else:
            yield name, value


def _single(value: object) -> object:
    """The Python number in what NumPy, PyTorch and the like wrap one in. Raises TypeError for several."""
    item = getattr(value, "item", None)
    if not callable(item):
        return value
    try:
        return item()
    except Exception as error:
        shape = getattr(value, "shape", None)
        of = f" of shape {tuple(shape)}" if isinstance(shape, tuple) else ""
        raise TypeError(f"a {_type_name(value)}{of} is no single number") from error


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever a value does when it is shown, it is only shown
        return "something"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _type_name(value: object) -> str:
    return type(value).__name__
