"""Conditions on runs as SQL, every value of a filter a bound parameter.

A field that has no value (a missing key, an empty text, NaN) meets no comparison, so each is either true or false and
never NULL: only so does NOT mean what it says.
"""

from __future__ import annotations

import math
import operator
import string
from collections.abc import Callable, Iterable
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

from tracker_server.filters import conditions, fields
from tracker_server.filters.conditions import Condition, Pattern, Value
from tracker_server.model.totals import HUGE_SCALE
from tracker_server.store.json_values import Bool, JsonValues, Node
from tracker_server.store.tables import runs, series

Comparator = Callable[[Any, Any], Bool]


class RunSearch:
    """What conditions and orders are in the SQL of one statement."""

    def __init__(self, values: JsonValues, metrics: Iterable[str]) -> None:
        """metrics: the names that occur, see `metric_names`."""
        self._values = values
        self._series = {name: series.alias(f"m{number}") for number, name in enumerate(sorted(metrics))}

    def source(self) -> FromClause:
        """What to select from: the runs, and beside each what it has of the metrics."""
        source: FromClause = runs
        for name, table in self._series.items():
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
                node = self._node(field)
                # Numbers come before texts. True is 1.
                number = func.coalesce(self._values.number(node), self._values.truth(node))
                return [number, self._values.ordered(self._values.text(node))]
            case fields.TextField() | fields.EntryField():
                return [self._values.ordered(self._text(field))]
            case fields.BoolField():
                return [case((runs.c[field.column], 1), else_=0)]
            case _:
                return [self._number(field)]

    # ------------------------------------------------------------ comparisons

    def _compare(self, field: fields.Field, name: str, value: Value) -> Bool:
        match field:
            case fields.TextField() | fields.EntryField():
                return self._compare_text(self._text(field), name, value)
            case fields.BoolField():
                same = runs.c[field.column] == literal(value)
                return same if name == "=" else not_(same)
            case fields.ConfigField():
                return self._compare_config(self._node(field), name, value)
            case _:
                return self._compare_number(self._number(field), name, value)

    def _compare_config(self, node: Node, name: str, value: Value) -> Bool:
        if value is None:
            present = node.is_not(None)
            return and_(present, self._values.is_null(node) if name == "=" else not_(self._values.is_null(node)))
        if isinstance(value, bool):
            return _COMPARATORS[name](self._values.truth(node), int(value))
        if isinstance(value, str | Pattern):
            return self._compare_text(self._values.text(node), name, value)
        if math.isnan(value):
            return false()
        number = self._values.number(node)
        if name in ("=", "!="):
            same = _surely(self._values.equals(node, value))
            return and_(number.is_not(None), same if name == "=" else not_(same))
        return _COMPARATORS[name](number, self._values.bound(value))

    def _compare_number(self, number: Node, name: str, value: Value) -> Bool:
        assert isinstance(value, int | float)
        if math.isnan(value):
            return false()
        bound = literal(value, Double) if isinstance(number.type, Double) else self._values.bound(value)
        return _COMPARATORS[name](number, bound)

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
                return self._node(field).is_not(None)
            case fields.BoolField():
                return runs.c[field.column]
            case _:
                return self._number(field).is_not(None)

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
                return self._values.has_item(self._node(field), value)

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

    def _node(self, field: fields.ConfigField) -> Node:
        return self._values.at(runs.c.config, field.keys)

    def _number(self, field: fields.Field) -> Node:
        match field:
            case fields.IntField() | fields.TimeField():
                return runs.c[field.column]
            case fields.StatusField():
                return runs.c.status
            case fields.FinalField():
                return self._values.number(self._values.at(runs.c.final_metrics, (field.name,)))
            case fields.MetricField():
                return _statistic(self._series[field.name], field.statistic)
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
        finite = cast(table.c.finite_count, Double)
        # As model.totals.mean_of; what rounding would take beyond the largest double is kept from it.
        part = func.coalesce(table.c.huge_sum / func.nullif(finite, 0.0), 0.0)
        huge = case((part > _LARGEST, _LARGEST), (part < -_LARGEST, -_LARGEST), else_=part) / HUGE_SCALE
        return table.c.sum / func.nullif(finite, 0.0) + cast(huge, Double)
    return table.c.count if name == "count" else table.c[f"{name}_value"]


def _of_kind(value: ColumnElement[Any], kind: ColumnElement[Any]) -> ColumnElement[Any]:
    """See store/kinds.py; NaN is no value to compare with."""
    return case(
        (kind.in_((0, 4)), value), (kind == 2, literal(math.inf, Double)), (kind == 3, literal(-math.inf, Double))
    )


_LARGEST: Final = 1.797e308 * HUGE_SCALE
_COMPARATORS: Final[dict[str, Comparator]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
