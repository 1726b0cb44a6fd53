"""The rules of filters and orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tracker_server.filters.conditions import condition_of, order_of
from tracker_server.filters.syntax import FilterError
from tracker_server.validation.violations import Violations


def check_search(violations: Violations, filter_text: str, order_text: str) -> None:
    """A filter and an order: points at the first character that is wrong in each."""
    _check(violations, "filter", filter_text, condition_of)
    _check(violations, "order_by", order_text, order_of)


def _check(violations: Violations, field: str, text: str, parse: Callable[[str], object]) -> None:
    try:
        parse(text)
    except FilterError as error:
        violations.add(field, f"at character {error.position + 1}{_near(text, error.position)}: {error}")


def _near(text: str, position: int) -> str:
    if position >= len(text):
        return ", its end"
    part = text[position : position + _SHOWN]
    return f", at {part!r}{'…' if position + _SHOWN < len(text) else ''}"


_SHOWN: Final = 20
