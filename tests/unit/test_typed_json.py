"""Config values as JSON and back: the same type, the same bits."""

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config_values import config_maps, python_of
from tracker.v1.resources_pb2 import ConfigMap, ConfigValue
from tracker_server.model.typed_json import decode_double, decode_map, decode_value, encode_double, encode_value

NASTY_VALUES: list[object] = [
    *(2**53 + 1, -(2**63), 2**63 - 1, True, False, None, "", "$double", '"\\{},\n', [], [[]], [None], {}, {"": {}}),
    *({"$double": "1"}, {"$map": {}}, {"$map": {"$map": 1}}, {"$x": 1, "y": 2}, [{"$double": math.nan}]),
]
NASTY_DOUBLES = [math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 1e308, 1e16, 1e15, 0.1, 1e-4, 1e-5, 2.0**53, 4.0]


def bits(value: float) -> bytes:
    return b"nan" if math.isnan(value) else struct.pack(">d", value)


@pytest.mark.parametrize("value", NASTY_DOUBLES)
def test_nasty_doubles_come_back_exactly(value: float) -> None:
    assert bits(decode_double(json.loads(json.dumps(encode_double(value), allow_nan=False)))) == bits(value)


@given(st.floats())
def test_every_double_comes_back_exactly(value: float) -> None:
    encoded = encode_double(value)
    assert bits(decode_double(json.loads(json.dumps(encoded, allow_nan=False)))) == bits(value)
    if isinstance(encoded, float):
        # What JSONB keeps digit by digit, and no implementation takes for an integer.
        assert set(repr(encoded)) <= set("-.0123456789")
        assert "." in repr(encoded)


@given(config_maps())
def test_every_config_comes_back_as_the_same_types_and_values(config: ConfigMap) -> None:
    encoded = {key: encode_value(value) for key, value in config.values.items()}
    stored = json.loads(json.dumps(encoded, allow_nan=False, sort_keys=True))
    assert python_of(decode_map(stored)) == python_of(config)


@pytest.mark.parametrize("value", NASTY_VALUES, ids=repr)
def test_nasty_values_come_back_exactly(value: object) -> None:
    config = ConfigValue()
    fill(config, value)
    back = ConfigValue()
    decode_value(json.loads(json.dumps(encode_value(config), allow_nan=False)), back)
    assert python_of(back) == python_of(config)


def fill(into: ConfigValue, value: object) -> None:
    """Fills a config value from plain Python."""
    match value:
        case None:
            into.null_value = 0  # type: ignore[assignment]  # NullValue.NULL_VALUE
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
                fill(into.list_value.values.add(), item)
        case dict():
            into.map_value.SetInParent()
            for key, item in value.items():
                fill(into.map_value.values[key], item)
        case _:
            raise TypeError(value)


def test_a_value_of_no_kind_becomes_null() -> None:
    back = ConfigValue()
    decode_value(encode_value(ConfigValue()), back)
    assert back.WhichOneof("kind") == "null_value"


@pytest.mark.parametrize("value", ["1.0", None, [1.0]])
def test_what_is_no_double_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is no double"):
        decode_double(value)  # type: ignore[arg-type]
