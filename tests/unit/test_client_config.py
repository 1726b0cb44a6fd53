"""tracker_client.config: what goes in comes back with its type, and what cannot is refused by name."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import OrderedDict
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.v1.resources_pb2 import ConfigMap
from tracker_client import ConfigError, from_config, to_config
from tracker_client.config import MAX_DEPTH
from tracker_server.errors import InvalidRequest
from tracker_server.limits import MAX_CONFIG_DEPTH
from tracker_server.validation.config import check_config
from tracker_server.validation.violations import Violations

_ROOT = Path(__file__).resolve().parents[2]
_text = st.text(st.characters(exclude_categories=["Cs"]))
_scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | _text
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4), max_leaves=20
)
_configs = st.dictionaries(_text, _values, max_size=6)


def _exact(value: Any) -> Any:
    """Equal only when type, sign of zero and NaN are the same too."""
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, float):
        return "float", "nan" if math.isnan(value) else value.hex()
    return type(value).__name__, value


@given(_configs)
def test_comes_back_the_same(config: dict[str, Any]) -> None:
    message = ConfigMap.FromString(to_config(config).SerializeToString())
    assert _exact(from_config(message)) == _exact(config)


def test_types_are_told_apart() -> None:
    config = {"flag": True, "one": 1, "one point": 1.0, "text": "1", "nothing": None, "big": 2**53 + 1}
    message = to_config(config)
    kinds = {key: value.WhichOneof("kind") for key, value in message.values.items()}
    assert kinds == {
        "flag": "bool_value",
        "one": "int_value",
        "one point": "double_value",
        "text": "string_value",
        "nothing": "null_value",
        "big": "int_value",
    }
    assert _exact(from_config(message)) == _exact(config)


def test_empty_containers_stay() -> None:
    assert from_config(to_config({"list": [], "map": {}, "both": [[], {}]})) == {
        "list": [],
        "map": {},
        "both": [[], {}],
    }
    assert from_config(to_config({})) == {}


def test_tuples_and_other_mappings() -> None:
    assert from_config(to_config(OrderedDict(betas=(0.9, 0.999), inner=OrderedDict(a=1)))) == {
        "betas": [0.9, 0.999],
        "inner": {"a": 1},
    }


class _Size(IntEnum):
    LARGE = 7


class _Name(str, Enum):  # noqa: UP042  # as the libraries of old have them
    ADAM = "adam"


def test_subclasses_become_what_they_are_made_of() -> None:
    config = {"size": _Size.LARGE, "name": _Name.ADAM, "by name": {_Name.ADAM: 1}}
    assert _exact(from_config(to_config(config))) == _exact({"size": 7, "name": "adam", "by name": {"adam": 1}})


class _Tensor:
    """A tensor of no dimensions, of a library that is not here."""

    ndim = 0

    def __init__(self, value: object) -> None:
        self._value = value

    def item(self) -> object:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (np.int64(7), 7),
        (np.uint8(7), 7),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (np.array(3), 3),
        (np.str_("adam"), "adam"),
        (_Tensor(4), 4),
        (_Tensor(4.0), 4.0),
        (_Tensor(False), False),
    ],
)
def test_numbers_of_other_libraries(value: object, back: object) -> None:
    assert _exact(from_config(to_config({"value": value}))["value"]) == _exact(back)


_CYCLE: dict[str, Any] = {}
_CYCLE["self"] = _CYCLE
_LIST_CYCLE: list[Any] = []
_LIST_CYCLE.append(_LIST_CYCLE)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"optimizer": {"seed": 2**63}}, "config['optimizer']['seed'] is 9223372036854775808"),
        ({"seed": -(2**63) - 1}, "config['seed'] is -9223372036854775809"),
        ({"seed": 1 << 100_000}, "config['seed'] is an integer of 100001 bits"),
        ({"seed": np.uint64(2**64 - 1)}, "config['seed'] is 18446744073709551615"),
        ({"model": {1: "one"}}, "config['model'] has the key 1 of type int"),
        ({None: 1}, "config has the key None of type NoneType"),
        ({"layers": [1, {"sizes": {2, 3}}]}, "config['layers'][1]['sizes'] is of type set"),
        ({"path": Path("data")}, "config['path'] is of type pathlib"),
        ({"raw": b"bytes"}, "config['raw'] is of type bytes"),
        ({"z": 1j}, "config['z'] is of type complex"),
        ({"z": np.complex64(1)}, "config['z'] is of type numpy.complex64"),
        ({"weights": np.array([1.0, 2.0])}, "config['weights'] is an array of type numpy.ndarray; give its .tolist()"),
        ({"weight": np.array([1.0])}, "config['weight'] is an array"),
        ({"loss": _Tensor(RuntimeError("on another device"))}, "config['loss'] is of type"),
        ({"text": "a\ud800"}, "config['text'] has a lone surrogate at position 1"),
        ({"\udfff": 1}, "lone surrogate at position 0"),
        (_CYCLE, "nested deeper than 32 levels; does it contain itself?"),
        ({"list": _LIST_CYCLE}, "nested deeper than 32 levels"),
    ],
)
def test_refused_by_name(config: dict[Any, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        to_config(config)
    assert named in str(caught.value)
    assert len(str(caught.value)) < 400


def _nested(levels: int, *, lists: bool) -> dict[str, Any]:
    value: Any = [] if lists else {}
    for _ in range(levels - 2):
        value = [value] if lists else {"key": value}
    return {"key": value}


@pytest.mark.parametrize("lists", [True, False])
def test_depth_is_the_servers(lists: bool) -> None:
    assert MAX_DEPTH == MAX_CONFIG_DEPTH
    deepest = _nested(MAX_DEPTH, lists=lists)
    message = ConfigMap.FromString(to_config(deepest).SerializeToString())
    violations = Violations()
    check_config(violations, "config", message)
    violations.raise_if_any()
    assert from_config(message) == deepest
    with pytest.raises(ConfigError):
        to_config(_nested(MAX_DEPTH + 1, lists=lists))


def test_what_is_taken_here_is_taken_by_the_server() -> None:
    violations = Violations()
    check_config(violations, "config", to_config({"a": [None, True, 1, 1.5, "x", {"b": {}}]}))
    violations.raise_if_any()
    check_config(violations, "config", to_config({"": 1, "nul": "\0"}))
    with pytest.raises(InvalidRequest):
        violations.raise_if_any()


def test_unknown_kind_is_named() -> None:
    message = ConfigMap()
    message.values["new"].list_value.values.add()
    with pytest.raises(ConfigError, match=r"config\['new'\]\[0\] has no value"):
        from_config(message)


def test_imports_nothing_else() -> None:
    """A training image has grpcio and protobuf; whatever else the client imported would be missing there."""
    program = (
        "import json, sys; before = set(sys.modules); import tracker_client;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    environment = {"PYTHONPATH": f"{_ROOT}:{_ROOT / 'generated'}"}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=True)
    foreign = [
        name
        for name in json.loads(done.stdout)
        if not name.startswith(("tracker_client", "tracker.v1", "google.protobuf", "google._upb", "grpc"))
        and name not in ("tracker", "google", "cython_runtime", "_cython")
        and name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert foreign == []
