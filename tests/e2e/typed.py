"""Python's own values as config values, and back."""

from __future__ import annotations

from typing import TypeAlias

from tracker.v1.resources_pb2 import ConfigMap, ConfigValue

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"


def to_config(values: dict[str, Value]) -> ConfigMap:
    """A config."""
    config = ConfigMap()
    for key, value in values.items():
        _fill(config.values[key], value)
    return config


def from_config(config: ConfigMap) -> dict[str, Value]:
    """A dict."""
    return {key: _value(item) for key, item in config.values.items()}


def same_values(one: Value, other: Value) -> bool:
    """Equal in value and type: 4 is not 4.0, True not 1, -0.0 not 0.0, and NaN is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_values, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_values(value, other[key]) for key, value in one.items())
    return one == other


def _fill(into: ConfigValue, value: Value) -> None:
    match value:
        case None:
            into.null_value = 0  # type: ignore[assignment]  # NullValue.NULL_VALUE, the only one
        case bool():
            into.bool_value = value
        case int():
            into.int_value = value
        case float():
            into.double_value = value
        case str():
            into.string_value = value
        case list():
            into.list_value.SetInParent()
            for item in value:
                _fill(into.list_value.values.add(), item)
        case dict():
            into.map_value.SetInParent()
            for key, item in value.items():
                _fill(into.map_value.values[key], item)


def _value(item: ConfigValue) -> Value:
    match item.WhichOneof("kind"):
        case "null_value":
            return None
        case "list_value":
            return [_value(one) for one in item.list_value.values]
        case "map_value":
            return {key: _value(one) for key, one in item.map_value.values.items()}
        case kind:
            found: Value = getattr(item, str(kind))
            return found
