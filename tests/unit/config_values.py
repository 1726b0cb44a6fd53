"""Configs for tests: any nesting of any values, and what they are in Python."""

import math
import struct
from typing import Any

from hypothesis import strategies as st

from tracker.v1.resources_pb2 import ConfigList, ConfigMap, ConfigValue

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
keys = texts | st.sampled_from(["$double", "$map", "$", "a.b", '"', "\\", "{", "}", ",", "NULL", "'", "%s"])
scalars = st.one_of(
    st.builds(lambda v: ConfigValue(int_value=v), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda v: ConfigValue(double_value=v), st.floats()),
    st.builds(lambda v: ConfigValue(bool_value=v), st.booleans()),
    st.builds(lambda v: ConfigValue(string_value=v), texts | keys),
    st.just(ConfigValue(null_value=0)),  # type: ignore[arg-type]  # NullValue.NULL_VALUE
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.builds(lambda items: ConfigValue(list_value=ConfigList(values=items)), st.lists(inner, max_size=3)),
        st.builds(
            lambda items: ConfigValue(map_value=ConfigMap(values=items)), st.dictionaries(keys, inner, max_size=3)
        ),
    ),
    max_leaves=8,
)


def config_maps() -> st.SearchStrategy[ConfigMap]:
    """Whole configs."""
    return st.builds(lambda entries: ConfigMap(values=entries), st.dictionaries(keys, values, max_size=4))


def python_of(value: ConfigMap | ConfigValue) -> Any:
    """A config in Python, with types beside values, so that 4 and 4.0 differ and NaN equals itself."""
    if isinstance(value, ConfigMap):
        return {key: python_of(item) for key, item in value.values.items()}
    kind = value.WhichOneof("kind")
    match kind:
        case "list_value":
            return (kind, [python_of(item) for item in value.list_value.values])
        case "map_value":
            return (kind, python_of(value.map_value))
        case "double_value" if math.isnan(value.double_value):
            return (kind, "nan")
        case "double_value":
            return (kind, struct.pack(">d", value.double_value))
        case None:
            return ("null_value", 0)
        case _:
            return (kind, getattr(value, kind))
