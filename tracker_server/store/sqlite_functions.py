"""What SQLite lacks to look into JSON as model/typed_json.py writes it: read by Python, so that every double is exact."""

from __future__ import annotations

import json
import math
import sqlite3
from functools import lru_cache
from typing import Any

from tracker_server.model.typed_json import Json, decode_double, encode_double

Text = str | None


def register(connection: sqlite3.Connection) -> None:
    """Makes the functions known to a connection."""
    for function in (config_number, config_text, config_truth, config_kind, config_has):
        count = 3 if function is config_has else 2
        connection.create_function(function.__name__, count, function, deterministic=True)


def config_number(root: Text, keys: str) -> int | float | None:
    """The number at the end of these keys (a JSON list); None for NaN and for everything that is none."""
    return _number(_at(root, keys))


def config_text(root: Text, keys: str) -> str | None:
    """The text there; None for everything that is none."""
    found = _at(root, keys)
    return found if isinstance(found, str) else None


def config_truth(root: Text, keys: str) -> int | None:
    """1 or 0; None for everything but true and false."""
    found = _at(root, keys)
    return int(found) if isinstance(found, bool) else None


def config_kind(root: Text, keys: str) -> str | None:
    """`null`, `nan` or `other`; None where there is nothing."""
    found = _at(root, keys)
    if found is None:
        return "null"
    if found is _NOTHING:
        return None
    return "nan" if found == _NAN else "other"


def config_has(root: Text, keys: str, item: str) -> int:
    """Whether there is a list with this item (JSON)."""
    found, wanted = _at(root, keys), _parsed(item)
    return int(isinstance(found, list) and any(_same(one, wanted) for one in found))


class _Nothing:
    """There is no such value."""


_NOTHING = _Nothing()
_NAN = encode_double(math.nan)
_DOUBLE = "$double"
_MAP = "$map"


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    # The conditions on one run follow each other.
    return json.loads(text)


def _at(root: Text, keys: str) -> Any:
    node: Any = _NOTHING if root is None else _parsed(root)
    for level, key in enumerate(_parsed(keys)):
        if level and isinstance(node, dict):
            if node.keys() == {_MAP}:
                node = node[_MAP]
            elif key.startswith("$"):
                # A map with such a key is wrapped; this is a tagged number.
                return _NOTHING
        if not isinstance(node, dict) or key not in node:
            return _NOTHING
        node = node[key]
    return node


def _number(found: Json | _Nothing) -> int | float | None:
    if isinstance(found, dict) and found.keys() == {_DOUBLE}:
        value = decode_double(found)
        return None if math.isnan(value) else value
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def _same(one: Json, other: Json) -> bool:
    numbers = _number(one), _number(other)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return type(one) is type(other) and one == other
