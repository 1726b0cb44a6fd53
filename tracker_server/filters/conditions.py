"""Typed conditions: each comparison with a value of the type that its field has."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from tracker_server.filters.fields import (
    BoolField,
    ConfigField,
    EntryField,
    Field,
    FinalField,
    IntField,
    KeysField,
    MetricField,
    StatusField,
    TagsField,
    TextField,
    TimeField,
    resolve,
)
from tracker_server.filters.parser import parse_filter, parse_order
from tracker_server.filters.syntax import And, Comparison, FilterError, Literal, Not, Or, Path, Search, Tree
from tracker_server.model.status import Status


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text, any text before it and any text after it, where these are welcome."""

    text: str
    before: bool
    after: bool


Value: TypeAlias = "str | int | float | bool | Pattern | None"


@dataclass(frozen=True, slots=True)
class Compare:
    """A field that has a value, compared with another of its type. A field without one meets no comparison.

    NaN is equal to NaN and to nothing else, and neither less nor greater than anything.

    operator: = != < <= > >=; for texts also : (contains, whatever the case of its ASCII letters).
    """

    field: Field
    operator: str
    value: Value


@dataclass(frozen=True, slots=True)
class Present:
    """A field that has a value."""

    field: Field


@dataclass(frozen=True, slots=True)
class Contains:
    """A tag, a key of a map, or an item of a list in the config."""

    field: TagsField | KeysField | ConfigField
    value: Value


@dataclass(frozen=True, slots=True)
class Mentions:
    """The run's id, name, group, notes or one of its tags has this text in it, whatever the case of its ASCII letters."""

    text: str


@dataclass(frozen=True, slots=True)
class Negation:
    """What must not hold."""

    part: Condition


@dataclass(frozen=True, slots=True)
class All:
    """All must hold."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """One must hold."""

    parts: tuple[Condition, ...]


Condition: TypeAlias = "Compare | Present | Contains | Mentions | Negation | All | Any"


@dataclass(frozen=True, slots=True)
class Order:
    """A field to order by. Runs without a value come last, whichever the direction."""

    field: Field
    descending: bool


def condition_of(text: str) -> Condition | None:
    """What a filter asks for; None: nothing. Raises FilterError."""
    tree = parse_filter(text)
    if tree is None:
        return None
    _check_size(tree)
    return _condition(tree)


MAX_CONDITIONS: Final = 100
"""Comparisons and words of one filter."""
MAX_METRICS: Final = 20
"""Metrics that one filter may look at, and one order: the series of each are one more table to look into."""


def _check_size(tree: Tree) -> None:
    waiting, count = [tree], 0
    metrics: set[object] = set()
    while waiting:
        one = waiting.pop()
        match one:
            case And() | Or():
                waiting.extend(reversed(one.parts))
            case Not():
                waiting.append(one.part)
            case Search():
                count += 1
                position = one.literal.position
            case Comparison():
                count += 1
                position = one.path.position
                if one.path.names[0] == "metrics":
                    metrics.add(one.path.names[1:] or one.literal.text)
        if count > MAX_CONDITIONS:
            raise FilterError(position, f"is one condition too many; at most {MAX_CONDITIONS} are taken")
        if len(metrics) > MAX_METRICS:
            raise FilterError(position, f"is one metric too many; at most {MAX_METRICS} are looked at")


def order_of(text: str) -> tuple[Order, ...]:
    """What an order asks for; empty: the usual one. Raises FilterError."""
    orders = []
    for one in parse_order(text):
        field = resolve(one.path)
        if isinstance(field, TagsField | KeysField):
            raise FilterError(one.path.position, f"is {'.'.join(one.path.names)}, which has no order")
        orders.append(Order(field, one.descending))
    if len(orders) > MAX_ORDER_FIELDS:
        raise FilterError(0, f"has {len(orders)} fields; at most {MAX_ORDER_FIELDS} are taken")
    return tuple(orders)


MAX_ORDER_FIELDS: Final = 8
"""Each is a column more to fetch and to compare."""


def _condition(tree: Tree) -> Condition:
    match tree:
        case And():
            return All(tuple(_condition(part) for part in tree.parts))
        case Or():
            return Any(tuple(_condition(part) for part in tree.parts))
        case Not():
            return Negation(_condition(tree.part))
        case Search():
            return Mentions(tree.literal.text)
        case Comparison():
            return _comparison(tree)


def _comparison(tree: Comparison) -> Condition:
    operator, literal = tree.operator, tree.literal
    if operator == ":" and tree.path.names in (("config",), ("metrics",), ("final_metrics",)) and literal.text != "*":
        # Has it such an entry?
        return Present(resolve(Path((*tree.path.names, literal.text), tree.path.position)))
    field = resolve(tree.path)
    name = ".".join(tree.path.names)
    if operator == ":" and literal.text == "*" and not literal.quoted:
        return Present(field)
    match field:
        case TagsField() | KeysField():
            if operator != ":":
                raise FilterError(tree.path.position, f"is {name} {operator}; {name} takes : only, as in {name}:x")
            return Contains(field, _text(literal))
        case TextField() | EntryField():
            return Compare(field, operator, _text(literal) if operator in _EQUAL else literal.text)
        case ConfigField():
            return _config(field, operator, literal)
    if operator == ":":
        # On what is no text and no collection it means equality.
        operator = "="
    match field:
        case StatusField():
            if operator not in _EQUAL:
                raise FilterError(tree.path.position, f"is {name} {operator}; a status is equal or not: = or !=")
            return Compare(field, operator, _status(literal))
        case TimeField():
            return Compare(field, operator, _moment(literal, name))
        case BoolField():
            if operator not in _EQUAL:
                raise FilterError(tree.path.position, f"is {name} {operator}; it takes = and != only")
            return Compare(field, operator, _truth(literal, name))
        case MetricField(statistic="count") | IntField():
            return Compare(field, operator, _number(literal, name))
        case MetricField() | FinalField():
            # As metrics themselves are.
            return Compare(field, operator, float(_number(literal, name)))


_EQUAL: Final = ("=", "!=")


def _text(literal: Literal) -> str | Pattern:
    before, after = literal.stars
    if not before and not after:
        return literal.text
    text = literal.text[1:] if before else literal.text
    return Pattern(text[:-1] if after else text, before, after)


def _config(field: ConfigField, operator: str, literal: Literal) -> Condition:
    value = _typed(literal)
    if operator == ":":
        # A part of a text, or an item of a list.
        parts: list[Condition] = [Contains(field, value)]
        parts.append(Compare(field, ":", value) if isinstance(value, str) else Compare(field, "=", value))
        return Any(tuple(parts))
    if isinstance(value, bool) or value is None:
        if operator not in _EQUAL:
            shown = "null" if value is None else str(value).lower()
            raise FilterError(literal.position, f"is {operator} {shown}; it takes = and != only")
        return Compare(field, operator, value)
    if isinstance(value, str) and operator in _EQUAL:
        return Compare(field, operator, _text(literal))
    return Compare(field, operator, value)


def _typed(literal: Literal) -> str | int | float | bool | None:
    """A value of a config: quoted it is a text, else whatever it looks like."""
    if literal.quoted:
        return literal.text
    if literal.text in _CONSTANTS:
        return _CONSTANTS[literal.text]
    number = _as_number(literal.text)
    return literal.text if number is None else number


_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}


def _status(literal: Literal) -> int:
    name = literal.text.upper().removeprefix("RUN_STATUS_")
    if name not in Status.__members__:
        raise FilterError(literal.position, f"is {literal.text!r}; a status is one of {', '.join(Status.__members__)}")
    return int(Status[name])


def _truth(literal: Literal, name: str) -> bool:
    value = _CONSTANTS.get(literal.text.lower())
    if value is None:
        raise FilterError(literal.position, f"is {literal.text!r}; {name} is true or false")
    return value


def _number(literal: Literal, name: str) -> int | float:
    number = _as_number(literal.text)
    if number is None:
        raise FilterError(literal.position, f"is {literal.text!r}; {name} is a number, such as 4, -0.5, 1e-3 or inf")
    return number


def _as_number(text: str) -> int | float | None:
    if _INTEGER.fullmatch(text) and -(2**63) <= (number := int(text)) < 2**63:
        return number
    if _REAL.fullmatch(text):
        return float(text)
    return _NAMED.get(text.lower().lstrip("+"))


_INTEGER: Final = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_REAL: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,10})?", re.ASCII)
_NAMED: Final = {
    "nan": math.nan,
    "inf": math.inf,
    "infinity": math.inf,
    "-inf": -math.inf,
    "-infinity": -math.inf,
}


def _moment(literal: Literal, name: str) -> int:
    """Milliseconds; what lies between two of them counts as the earlier."""
    text = literal.text
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or not _DATE.match(text):
        raise FilterError(
            literal.position, f"is {text!r}; {name} is a moment, such as 2026-01-31 or 2026-01-31T12:00:00Z"
        )
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
