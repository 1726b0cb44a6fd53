"""Configs of runs: from a Python dict to the message and back, every value with its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE

from tracker.v1.resources_pb2 import ConfigMap, ConfigValue

MAX_DEPTH = 32
"""Levels of nesting that a server takes; also what ends a dict that contains itself."""
_MIN_INT = -(2**63)
_MAX_INT = 2**63 - 1


class ConfigError(ValueError):
    """A config has a key or a value that cannot be sent. The message names the key."""


def to_config(values: Mapping[str, object]) -> ConfigMap:
    """The message of a config.

    Taken are None, bool, int (64 bits), float, str, lists and tuples (which come back as lists), and dicts of them with
    str keys; also single numbers of NumPy, PyTorch and the like, by their `.item()`.

    Raises ConfigError.
    """
    config = ConfigMap()
    _fill_map(config, values, "config", 1)
    return config


def from_config(config: ConfigMap) -> dict[str, Any]:
    """The dict of a config, keys sorted. Raises ConfigError for a value of a kind that this version does not know."""
    return _read_map(config, "config")


def _fill_map(message: ConfigMap, values: Mapping[str, object], path: str, depth: int) -> None:
    _check_depth(path, depth)
    for key, value in values.items():
        if not isinstance(key, str):
            # Not turned into text: 1 and "1" would become one key.
            raise ConfigError(f"{path} has the key {key!r} of type {_type_name(key)}; keys must be str")
        place = f"{path}[{key!r}]"
        _check_text(key, f"the key {key!r} of {path}")
        _fill_value(message.values[str.__str__(key)], value, place, depth)


def _fill_value(message: ConfigValue, value: object, path: str, depth: int) -> None:
    if isinstance(value, Mapping):
        message.map_value.SetInParent()
        _fill_map(message.map_value, value, path, depth + 1)
    elif isinstance(value, list | tuple):
        _check_depth(path, depth + 1)
        message.list_value.SetInParent()
        for index, item in enumerate(value):
            _fill_value(message.list_value.values.add(), item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, str):
        _check_text(value, path)
        # Of an enum of texts the text, which str() would not give.
        message.string_value = str.__str__(value)
    elif value is None:
        message.null_value = NULL_VALUE
    else:
        _fill_number(message, _number(value, path), path)


def _fill_number(message: ConfigValue, value: float, path: str) -> None:
    # A bool is an int to Python, so it comes first.
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        if not _MIN_INT <= value <= _MAX_INT:
            raise ConfigError(f"{path} is {_shown(value)}, which does not fit into 64 bits; give it as float or str")
        message.int_value = int(value)
    else:
        message.double_value = float(value)


def _number(value: object, path: str) -> float:
    """A bool, int or float, taken out of what other libraries wrap them in."""
    if isinstance(value, int | float):
        return value
    item = getattr(value, "item", None)
    if not callable(item):
        raise ConfigError(
            f"{path} is of type {_type_name(value)}; a config holds None, bool, int, float, str, lists and dicts"
        )
    if getattr(value, "ndim", 0):
        raise ConfigError(f"{path} is an array of type {_type_name(value)}; give its .tolist()")
    try:
        number = item()
    except Exception as error:
        raise ConfigError(f"{path} is of type {_type_name(value)}, and its item() fails: {error}") from error
    if not isinstance(number, int | float):
        raise ConfigError(f"{path} is of type {_type_name(value)}, which is no number of at most 64 bits")
    return number


def _read_map(config: ConfigMap, path: str) -> dict[str, Any]:
    return {key: _read_value(config.values[key], f"{path}[{key!r}]") for key in sorted(config.values)}


def _read_value(value: ConfigValue, path: str) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "map_value":
        return _read_map(value.map_value, path)
    if kind == "list_value":
        return [_read_value(item, f"{path}[{index}]") for index, item in enumerate(value.list_value.values)]
    if kind == "null_value":
        return None
    if kind is None:
        raise ConfigError(f"{path} has no value, or one of a kind that this version of tracker_client does not know")
    return getattr(value, kind)


def _check_depth(path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ConfigError(f"{_cut(path)} is nested deeper than {MAX_DEPTH} levels; does it contain itself?")


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} has a lone surrogate at position {error.start}, which no UTF-8 can hold") from None


def _shown(value: int) -> str:
    # Python itself refuses to print very long ones.
    return str(value) if value.bit_length() < 1_000 else f"an integer of {value.bit_length()} bits"


def _cut(path: str) -> str:
    return path if len(path) <= 100 else f"{path[:100]}…"


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
