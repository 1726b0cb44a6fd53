"""Conditions on runs as SQL, every value of a filter a bound parameter.

A field that has no value (a missing key, an empty text, NaN) meets no comparison, so each is either true or false and
never NULL: only so does NOT mean what it says.
"""

from __future__ import annotations

import math
import operator
import string
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Double,
    FromClause,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    not_,
    or_,
    true,
)

from tracker_server import limits
from tracker_server.filters import conditions, fields
from tracker_server.filters.conditions import Condition, Pattern, Value
from tracker_server.model.totals import HUGE_SCALE
from tracker_server.store.json_values import Bool, JsonValues, Node
from tracker_server.store.tables import runs

Comparator = Callable[[Any, Any], Bool]


class RunSearch:
    """What conditions and orders are in the SQL of one statement."""

    def __init__(self, values: JsonValues[Any], metrics: Mapping[str, FromClause]) -> None:
        """metrics: by name, what to read each from; see `metric_names` and store/metric_rows.py."""
        self._values = values
        self._metrics = metrics

    def source(self) -> FromClause:
        """What to select from: the runs, and beside each what it has of the metrics."""
        source: FromClause = runs
        for name, table in self._metrics.items():
            source = source.outerjoin(table, and_(table.c.run_id == runs.c.run_id, table.c.name == name))
        return source

    def holds(self, condition: Condition) -> Bool:
        """Whether a run meets the condition; never NULL."""
        match condition:
            case conditions.All():
                return and_(true(), *(self.holds(part) for part in condition.parts))
            case conditions.Any():
                return or_(false(), *(self.holds(part) for part in condition.parts))
            case conditions.Negation():
                return not_(self.holds(condition.part))
            case conditions.Mentions():
                return self._mentions(condition.text)
            case conditions.Contains():
                return _surely(self._contains(condition.field, condition.value))
            case conditions.Present():
                return _surely(self._present(condition.field))
            case conditions.Compare():
                return _surely(self._compare(condition.field, condition.operator, condition.value))

    def order_keys(self, field: fields.Field) -> list[Node]:
        """By what runs are ordered when they are ordered by a field; NULL: it has no value."""
        match field:
            case fields.ConfigField():
                place = self._place(field)
                # Numbers come before texts. True is 1.
                number = func.coalesce(self._values.number(place), self._values.truth(place))
                return [number, self._beginning(self._values.text(place))]
            case fields.TextField() | fields.EntryField():
                return [self._beginning(self._text(field))]
            case fields.BoolField():
                return [case((_is_to_stop(), 1), else_=0)]
            case _:
                return [self._number(field)]

    # ------------------------------------------------------------ comparisons

    def _compare(self, field: fields.Field, name: str, value: Value) -> Bool:
        match field:
            case fields.TextField() | fields.EntryField():
                return self._compare_text(self._text(field), name, value)
            case fields.BoolField():
                return _is_to_stop() if (name == "=") is value else not_(_is_to_stop())
            case fields.ConfigField():
                return self._compare_config(self._place(field), name, value)
            case _:
                return self._compare_number(self._number(field), self._is_nan(field), name, value)

    def _compare_config(self, place: Any, name: str, value: Value) -> Bool:
        if value is None:
            is_null = self._values.is_null(place)
            return and_(self._values.present(place), is_null if name == "=" else not_(is_null))
        if isinstance(value, bool):
            return _COMPARATORS[name](self._values.truth(place), int(value))
        if isinstance(value, str | Pattern):
            return self._compare_text(self._values.text(place), name, value)
        return self._compare_number(self._values.number(place), self._values.is_nan(place), name, value)

    def _compare_number(self, number: Node, is_nan: Bool, name: str, value: Value) -> Bool:
        assert isinstance(value, int | float)
        if math.isnan(value):
            return {"=": is_nan, "!=": number.is_not(None)}.get(name, false())
        bound = literal(value, Double) if isinstance(number.type, Double) else self._values.bound(value)
        holds = _COMPARATORS[name](number, bound)
        return or_(_surely(holds), _surely(is_nan)) if name == "!=" else holds

    def _compare_text(self, text: Node, name: str, value: Value) -> Bool:
        if isinstance(value, Pattern):
            like = self._like(text, value)
            return like if name == "=" else not_(like)
        assert isinstance(value, str)
        if name == ":":
            return self._values.position(self._lower(text), value.translate(_LOWER)) > 0
        return _COMPARATORS[name](self._values.ordered(text), literal(value, Text))

    def _like(self, text: Node, pattern: Pattern) -> Bool:
        part = pattern.text
        if not part:
            return text.is_not(None)
        if pattern.before and pattern.after:
            return self._values.position(text, part) > 0
        if pattern.after:
            return func.substr(text, 1, len(part)) == literal(part, Text)
        return self._values.ends_with(text, part)

    def _present(self, field: fields.Field) -> Bool:
        match field:
            case fields.TagsField():
                return self._values.some_text(runs.c.tags, lambda _: true())
            case fields.KeysField():
                return cast(runs.c[field.column], Text) != "{}"
            case fields.TextField() | fields.EntryField():
                return self._text(field).is_not(None)
            case fields.ConfigField():
                return self._values.present(self._place(field))
            case fields.BoolField():
                return _is_to_stop()
            case _:
                return or_(self._number(field).is_not(None), _surely(self._is_nan(field)))

    def _contains(self, field: fields.Field, value: Value) -> Bool:
        match field:
            case fields.TagsField():
                return self._values.some_text(runs.c.tags, lambda tag: self._matches(tag, value))
            case fields.KeysField():
                assert isinstance(value, str | Pattern)
                key = value.text if isinstance(value, Pattern) else value
                return self._values.entry(runs.c[field.column], key).is_not(None)
            case _:
                assert isinstance(field, fields.ConfigField)
                assert not isinstance(value, Pattern)
                return self._values.has_item(self._place(field), value)

    def _matches(self, text: Node, value: Value) -> Bool:
        assert isinstance(value, str | Pattern)
        return self._like(text, value) if isinstance(value, Pattern) else text == literal(value, Text)

    def _mentions(self, text: str) -> Bool:
        wanted = text.translate(_LOWER)

        def has(column: Node) -> Bool:
            return self._values.position(self._lower(column), wanted) > 0

        columns = (runs.c.run_id, runs.c.name, runs.c.run_group, runs.c.notes)
        return or_(*(has(column) for column in columns), self._values.some_text(runs.c.tags, has))

    def _lower(self, text: Node) -> Node:
        # By code points it is only the letters of ASCII that change, in both databases.
        return func.lower(self._values.ordered(text))

    # ------------------------------------------------------------ fields

    def _text(self, field: fields.TextField | fields.EntryField) -> Node:
        if isinstance(field, fields.EntryField):
            return self._values.entry(runs.c[field.column], field.key)
        return func.nullif(runs.c[field.column], "", type_=Text)

    def _beginning(self, text: Node) -> Node:
        return self._values.ordered(func.substr(text, 1, ORDER_CHARACTERS, type_=Text))

    def _place(self, field: fields.ConfigField | fields.FinalField) -> Any:
        if isinstance(field, fields.FinalField):
            return self._values.at(runs.c.final_metrics, (field.name,))
        return self._values.at(runs.c.config, field.keys)

    def _is_nan(self, field: fields.Field) -> Bool:
        match field:
            case fields.FinalField():
                return self._values.is_nan(self._place(field))
            case fields.MetricField(statistic="last" | "final" | "value"):
                return _kind(self._metrics[field.name], field.statistic) == _NAN_KIND
            case _:
                return false()

    def _number(self, field: fields.Field) -> Node:
        match field:
            case fields.TimeField("last_seen_ms"):
                # Of what was only ever replayed nobody saw anything.
                return func.nullif(runs.c.last_seen_ms, limits.MIN_TIME_MS)
            case fields.IntField() | fields.TimeField():
                return runs.c[field.column]
            case fields.StatusField():
                return runs.c.status
            case fields.FinalField():
                return self._values.number(self._place(field))
            case fields.MetricField():
                return _statistic(self._metrics[field.name], field.statistic)
            case _:
                raise AssertionError(field)


def metric_names(condition: Condition | None, orders: Iterable[conditions.Order]) -> frozenset[str]:
    """The metrics that a condition and an order look at."""
    found = {order.field.name for order in orders if isinstance(order.field, fields.MetricField)}
    waiting = [] if condition is None else [condition]
    while waiting:
        one = waiting.pop()
        if isinstance(one, conditions.All | conditions.Any):
            waiting.extend(one.parts)
        elif isinstance(one, conditions.Negation):
            waiting.append(one.part)
        elif isinstance(one, conditions.Compare | conditions.Present) and isinstance(one.field, fields.MetricField):
            found.add(one.field.name)
    return frozenset(found)


def _surely(holds: Bool) -> Bool:
    return func.coalesce(holds, false(), type_=false().type)


def _statistic(table: FromClause, name: str) -> ColumnElement[Any]:
    if name in ("last", "final"):
        return _of_kind(table.c[f"{name}_value"], table.c[f"{name}_kind"])
    if name == "value":
        given = table.c.final_kind.is_not(None)
        return case((given, _statistic(table, "final")), else_=_statistic(table, "last"))
    if name == "mean":
        return _mean(table.c.sum, table.c.huge_sum, cast(table.c.finite_count, Double))
    return table.c.count if name == "count" else table.c[f"{name}_value"]


def _mean(total: Node, huge: Node, count: Node) -> Node:
    """As model.totals.mean_of. PostgreSQL takes what is too small or too large for a double as an error."""
    vanishes = func.abs(total) * 2 <= count * _double(_SMALLEST)
    small = case((func.abs(total) >= _double(1e-300), total / count), (vanishes, 0.0), else_=total / count)
    part = huge / count
    large = case(
        (huge == 0, 0.0),
        (part > _double(_LARGEST), _double(math.inf)),
        (part < _double(-_LARGEST), _double(-math.inf)),
        else_=part / _double(HUGE_SCALE),
    )
    return case((count > 0, small + large))


def _double(value: float) -> Node:
    return cast(literal(value, Double), Double)


def _kind(table: FromClause, name: str) -> Node:
    if name == "value":
        return func.coalesce(table.c.final_kind, table.c.last_kind)
    return table.c[f"{name}_kind"]


def _is_to_stop() -> Bool:
    """As RunRecord.is_to_stop."""
    asked, heard = runs.c.stop_ms, runs.c.heard_ms
    return and_(runs.c.stop_requested, or_(asked.is_(None), heard.is_(None), asked >= heard))


def _of_kind(value: ColumnElement[Any], kind: ColumnElement[Any]) -> ColumnElement[Any]:
    """See store/kinds.py; NaN is no value to compare with."""
    return case(
        (kind.in_((0, 4)), value), (kind == 2, literal(math.inf, Double)), (kind == 3, literal(-math.inf, Double))
    )


ORDER_CHARACTERS: Final = 256
"""So much of a text counts for an order: it goes into page tokens."""
_LARGEST: Final = sys.float_info.max * HUGE_SCALE
_SMALLEST: Final = 5e-324
_NAN_KIND: Final = 1
_COMPARATORS: Final[dict[str, Comparator]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
