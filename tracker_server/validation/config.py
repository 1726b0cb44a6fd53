"""The rules of a config: kinds, depth, size, keys and texts."""

from __future__ import annotations

from tracker.v1.resources_pb2 import ConfigMap, ConfigValue
from tracker_server import limits
from tracker_server.validation.fields import check_key, check_no_nul
from tracker_server.validation.violations import Violations, entry


def check_config(violations: Violations, field: str, config: ConfigMap) -> None:
    """Adds what is wrong with a config found at field."""
    if not config.values:
        return
    size = config.ByteSize()
    if size > limits.MAX_CONFIG_BYTES:
        violations.add(field, f"has {size} bytes; at most {limits.MAX_CONFIG_BYTES} are taken")
    _check_map(violations, field, config, 1)


def _check_map(violations: Violations, field: str, config: ConfigMap, depth: int) -> None:
    if depth > limits.MAX_CONFIG_DEPTH:
        violations.add(field, f"is nested deeper than {limits.MAX_CONFIG_DEPTH} levels")
        return
    for key, value in config.values.items():
        path = entry(field, key)
        check_key(violations, path, key)
        _check_value(violations, path, value, depth)


def _check_value(violations: Violations, field: str, value: ConfigValue, depth: int) -> None:
    kind = value.WhichOneof("kind")
    if kind is None:
        violations.add(field, "has no value; set one of its kinds (null_value for None)")
    elif kind == "string_value":
        check_no_nul(violations, field, value.string_value)
    elif kind == "map_value":
        _check_map(violations, field, value.map_value, depth + 1)
    elif kind == "list_value":
        if depth >= limits.MAX_CONFIG_DEPTH:
            violations.add(field, f"is nested deeper than {limits.MAX_CONFIG_DEPTH} levels")
            return
        for index, item in enumerate(value.list_value.values):
            _check_value(violations, f"{field}[{index}]", item, depth + 1)
