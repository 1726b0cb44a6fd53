"""Filters and orders told naively: one run after the other, in plain Python.

Written from docs/finding.md, not from the SQL. Runs are dicts: texts, times, `config` and so on as they were written.
"""

from __future__ import annotations

import math
import operator
import string
from collections.abc import Callable, Mapping
from typing import Any

from tracker_server.filters import conditions, fields
from tracker_server.filters.conditions import Condition, Order, Pattern

Run = Mapping[str, Any]
MISSING = object()
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def meets(run: Run, condition: Condition) -> bool:
    """Whether a run meets a condition."""
    match condition:
        case conditions.All():
            return all(meets(run, part) for part in condition.parts)
        case conditions.Any():
            return any(meets(run, part) for part in condition.parts)
        case conditions.Negation():
            return not meets(run, condition.part)
        case conditions.Mentions():
            texts = [run[name] for name in ("run_id", "name", "run_group", "notes")] + run["tags"]
            return any(_has(text, condition.text) for text in texts)
        case conditions.Present():
            return _present(run, condition.field)
        case conditions.Contains():
            return _contains(run, condition.field, condition.value)
        case conditions.Compare():
            return _compare(value_of(run, condition.field), condition.operator, condition.value)


def value_of(run: Run, field: fields.Field) -> Any:
    """A field's value; MISSING where it has none."""
    match field:
        case fields.TextField():
            return run[field.column] or MISSING
        case fields.EntryField():
            return run[field.column].get(field.key, MISSING)
        case fields.ConfigField():
            node: Any = run["config"]
            for key in field.keys:
                node = node.get(key, MISSING) if isinstance(node, dict) else MISSING
            return node
        case fields.FinalField():
            return run["final_metrics"].get(field.name, MISSING)
        case fields.MetricField():
            return _statistic(run["metrics"].get(field.name), field.statistic)
        case fields.StatusField():
            return run["status"]
        case fields.IntField() | fields.TimeField() | fields.BoolField():
            return MISSING if run[field.column] is None else run[field.column]
        case _:
            raise AssertionError(field)


def sort_key(run: Run, order: tuple[Order, ...]) -> list[Any]:
    """Sorts runs: those without a value last, ties newest first."""
    key: list[Any] = []
    for one in order:
        value = value_of(run, one.field)
        number = value if isinstance(value, int | float) and not _is_nan(value) else None
        text = value[:256] if isinstance(value, str) else None
        for part in (number, text):
            key.append(part is None)
            key.append(0 if part is None else _Reversed(part) if one.descending else part)
    return [*key, _Reversed((run["created_ms"], run["run_id"]))]


class _Reversed:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: Any) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(other.value == self.value)

    def __hash__(self) -> int:
        return hash(self.value)


def _statistic(values: Mapping[str, Any] | None, name: str) -> Any:
    """values: last, min … as far as the metric has them."""
    if values is None:
        return MISSING
    if name == "value":
        name = "final" if "final" in values else "last"
    return values.get(name, MISSING)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _has(text: str, part: str) -> bool:
    return part.translate(_LOWER) in text.translate(_LOWER)


def _like(text: str, pattern: Pattern) -> bool:
    if pattern.before and pattern.after:
        return pattern.text in text
    return text.startswith(pattern.text) if pattern.after else text.endswith(pattern.text)


def _present(run: Run, field: fields.Field) -> bool:
    if isinstance(field, fields.TagsField):
        return bool(run["tags"])
    if isinstance(field, fields.KeysField):
        return bool(run[field.column])
    value = value_of(run, field)
    if isinstance(field, fields.BoolField):
        return bool(value)
    return value is not MISSING


def _contains(run: Run, field: fields.Field, value: Any) -> bool:
    if isinstance(field, fields.TagsField):
        return any(_like(tag, value) if isinstance(value, Pattern) else tag == value for tag in run["tags"])
    if isinstance(field, fields.KeysField):
        return (value.text if isinstance(value, Pattern) else value) in run[field.column]
    found = value_of(run, field)
    return isinstance(found, list) and any(_same(item, value) for item in found)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    return (type(one) in (int, float) and type(other) in (int, float) and one == other) or (
        isinstance(one, str) and one == other
    )


def _compare(found: Any, name: str, value: Any) -> bool:
    if found is MISSING:
        return False
    if value is None:
        return (found is None) is (name == "=")
    if type(found) in (int, float) and type(value) in (int, float) and (_is_nan(found) or _is_nan(value)):
        return {"=": _is_nan(found) and _is_nan(value), "!=": _is_nan(found) is not _is_nan(value)}.get(name, False)
    if isinstance(value, Pattern):
        return isinstance(found, str) and _like(found, value) is (name == "=")
    kinds = (bool,) if isinstance(value, bool) else (str,) if isinstance(value, str) else (int, float)
    if type(found) not in kinds:
        return False
    return _has(found, value) if name == ":" else _OPERATORS[name](found, value)
