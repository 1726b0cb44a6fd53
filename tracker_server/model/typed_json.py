"""Typed values as plain JSON and back, exactly.

JSON columns turn 1e300 into an integer and -0.0 into 0, and know no NaN. So a double is written as a JSON number
only where every JSON implementation gives it back as the same double; all others are tagged: `{"$double": "nan"}`.
Maps with a key that begins with `$` are wrapped in `{"$map": …}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, cast

from tracker.v1.resources_pb2 import ConfigMap, ConfigValue

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_DOUBLE = "$double"
_MAP = "$map"


def encode_double(value: float) -> Json:
    """A double as JSON: a number with a fraction where that is exact, else tagged text."""
    text = repr(value)
    # repr has '.' and no exponent from 1e-4 to 1e16; JSONB keeps such numbers digit by digit. It has no -0.0.
    return value if "." in text and "e" not in text and text != "-0.0" else {_DOUBLE: text}


def decode_double(value: Json) -> float:
    """What encode_double wrote. Raises ValueError for anything else."""
    if isinstance(value, dict):
        return float(cast("str", value[_DOUBLE]))
    if isinstance(value, int | float):
        return float(value)
    message = f"{value!r} is no double"
    raise ValueError(message)


def encode_value(value: ConfigValue) -> Json:
    """A config value as JSON."""
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return encode_double(value.double_value)
        case "string_value":
            return value.string_value
        case "list_value":
            return [encode_value(item) for item in value.list_value.values]
        case "map_value":
            return _wrap({key: encode_value(item) for key, item in value.map_value.values.items()})
        case _:
            return None


def decode_value(value: Json, into: ConfigValue) -> None:
    """Fills a config value from what encode_value wrote."""
    # bool before int: True is an int in Python.
    if value is None:
        into.null_value = 0  # type: ignore[assignment]  # NullValue.NULL_VALUE, the only one
    elif isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, int):
        into.int_value = value
    elif isinstance(value, float):
        into.double_value = value
    elif isinstance(value, str):
        into.string_value = value
    elif isinstance(value, list):
        into.list_value.SetInParent()
        for item in value:
            decode_value(item, into.list_value.values.add())
    elif len(value) == 1 and _DOUBLE in value:
        into.double_value = decode_double(value)
    else:
        into.map_value.SetInParent()
        inner = cast("dict[str, Json]", value[_MAP]) if len(value) == 1 and _MAP in value else value
        for key, item in inner.items():
            decode_value(item, into.map_value.values[key])


def decode_map(values: Mapping[str, Json]) -> ConfigMap:
    """A whole config from its top-level keys."""
    config = ConfigMap()
    for key, item in values.items():
        decode_value(item, config.values[key])
    return config


def _wrap(values: dict[str, Json]) -> Json:
    return {_MAP: values} if any(key.startswith("$") for key in values) else values
