"""Values within JSON columns as SQL, the same for both databases. How they are written is told in model/typed_json.py.

A node is a JSON value; NULL where there is none. Keys and values are bound parameters.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Final, Protocol

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Double,
    Integer,
    Numeric,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB

from tracker_server.model.typed_json import Json, encode_double

Node = ColumnElement[Any]
Bool = ColumnElement[bool]


class JsonValues(Protocol):
    """What conditions need of JSON, and of texts, where the databases differ."""

    def at(self, root: Node, keys: Sequence[str]) -> Node:
        """The node at the end of these keys, through maps that are wrapped too."""

    def number(self, node: Node) -> Node:
        """Its number; NULL for NaN and for everything that is none."""

    def equals(self, node: Node, value: float) -> Bool:
        """Whether it is this number, exactly."""

    def text(self, node: Node) -> Node:
        """Its text; NULL for everything that is none."""

    def truth(self, node: Node) -> Node:
        """1 or 0; NULL for everything but true and false."""

    def is_null(self, node: Node) -> Bool:
        """Whether it is JSON's null."""

    def has_item(self, node: Node, value: str | float | bool | None) -> Bool:
        """Whether it is a list with this item."""

    def some_text(self, node: Node, meets: Any) -> Bool:
        """Whether one of a list's texts meets a condition. meets: makes it of the text."""

    def entry(self, root: Node, key: str) -> Node:
        """The text of a map of texts under a key; NULL where there is none."""

    def bound(self, value: float) -> Node:
        """A number to compare with."""

    def ends_with(self, text: Node, end: str) -> Bool:
        """Whether a text ends like this."""

    def position(self, text: Node, part: str) -> Node:
        """Where a text has this part, from 1; 0: nowhere."""

    def ordered(self, text: Node) -> Node:
        """A text, compared by code points."""


class PostgresJson:
    """PostgreSQL's jsonb."""

    def at(self, root: Node, keys: Sequence[str]) -> Node:
        """See JsonValues."""
        node = _arrow(root, keys[0])
        for key in keys[1:]:
            wrapped = _arrow(_arrow(node, _MAP), key)
            node = wrapped if key.startswith("$") else func.coalesce(_arrow(node, key), wrapped, type_=JSONB)
        return node

    def number(self, node: Node) -> Node:
        """See JsonValues. As numeric: exact for every integer and double."""
        tagged = _arrow_text(node, _DOUBLE)
        return case(
            (func.jsonb_typeof(node) == "number", cast(_scalar(node), Numeric)),
            (and_(func.jsonb_typeof(node) == "object", tagged != "nan"), cast(tagged, Numeric)),
        )

    def equals(self, node: Node, value: float) -> Bool:
        """See JsonValues."""
        return self.number(node) == self.bound(value)

    def text(self, node: Node) -> Node:
        """See JsonValues."""
        return case((func.jsonb_typeof(node) == "string", _scalar(node)))

    def truth(self, node: Node) -> Node:
        """See JsonValues."""
        return case((func.jsonb_typeof(node) == "boolean", case((_scalar(node) == "true", 1), else_=0)))

    def is_null(self, node: Node) -> Bool:
        """See JsonValues."""
        return func.jsonb_typeof(node) == "null"

    def has_item(self, node: Node, value: str | float | bool | None) -> Bool:
        """See JsonValues."""
        item: Json = encode_double(value) if isinstance(value, float) else value
        wanted = cast(literal(json.dumps([item]), Text), JSONB)
        return and_(func.jsonb_typeof(node) == "array", node.op("@>")(wanted))

    def some_text(self, node: Node, meets: Any) -> Bool:
        """See JsonValues."""
        items = func.jsonb_array_elements_text(node).table_valued("value").alias()
        return exists(select(1).select_from(items).where(meets(cast(items.c.value, Text))))

    def entry(self, root: Node, key: str) -> Node:
        """See JsonValues."""
        return _arrow_text(root, key)

    def bound(self, value: float) -> Node:
        """See JsonValues."""
        return cast(literal(repr(value), Text), Numeric)

    def ends_with(self, text: Node, end: str) -> Bool:
        """See JsonValues."""
        return func.right(text, len(end)) == end

    def position(self, text: Node, part: str) -> Node:
        """See JsonValues."""
        return func.strpos(text, part)

    def ordered(self, text: Node) -> Node:
        """See JsonValues."""
        return text.collate("C")


class SqliteJson:
    """SQLite's JSON in texts."""

    def at(self, root: Node, keys: Sequence[str]) -> Node:
        """See JsonValues."""
        node = _child(root, keys[0])
        for key in keys[1:]:
            wrapped = _child(_child(node, _MAP), key)
            node = wrapped if key.startswith("$") else func.coalesce(_child(node, key), wrapped, type_=Text)
        return node

    def number(self, node: Node) -> Node:
        """See JsonValues. Integers stay such; of what SQLite reads from a text the last bit may differ."""
        tagged = _child_value(node, _DOUBLE)
        return case(
            (func.json_type(node).in_(("integer", "real")), _value(node)),
            (tagged == "inf", literal(math.inf, Double)),
            (tagged == "-inf", literal(-math.inf, Double)),
            (tagged == "nan", null()),
            (func.json_type(node) == "object", cast(tagged, Double)),
        )

    def equals(self, node: Node, value: float) -> Bool:
        """See JsonValues."""
        # By the digits too, since they are what was written.
        same = [self.number(node) == self.bound(value), node == literal(repr(value), Text)]
        return or_(*same, _child_value(node, _DOUBLE) == literal(repr(float(value)), Text))

    def text(self, node: Node) -> Node:
        """See JsonValues."""
        return case((func.json_type(node) == "text", type_coerce(_value(node), Text)))

    def truth(self, node: Node) -> Node:
        """See JsonValues."""
        kind = func.json_type(node)
        return case((kind == "true", 1), (kind == "false", 0))

    def is_null(self, node: Node) -> Bool:
        """See JsonValues."""
        return func.json_type(node) == "null"

    def has_item(self, node: Node, value: str | float | bool | None) -> Bool:
        """See JsonValues."""
        items = func.json_each(node).table_valued("type", "value").alias()
        if value is None or isinstance(value, bool):
            meets = items.c.type == {None: "null", True: "true", False: "false"}[value]
        elif isinstance(value, str):
            meets = and_(items.c.type == "text", items.c.value == literal(value, Text))
        else:
            tagged = json.dumps(encode_double(float(value)), separators=(",", ":"))
            meets = or_(
                and_(items.c.type.in_(("integer", "real")), items.c.value == self.bound(value)),
                and_(items.c.type == "object", items.c.value == literal(tagged, Text)),
            )
        return and_(func.json_type(node) == "array", exists(select(1).select_from(items).where(meets)))

    def some_text(self, node: Node, meets: Any) -> Bool:
        """See JsonValues."""
        items = func.json_each(node).table_valued("value").alias()
        return exists(select(1).select_from(items).where(meets(cast(items.c.value, Text))))

    def entry(self, root: Node, key: str) -> Node:
        """See JsonValues."""
        return type_coerce(_child_value(root, key), Text)

    def bound(self, value: float) -> Node:
        """See JsonValues."""
        return literal(value, Integer if isinstance(value, int) else Double)

    def ends_with(self, text: Node, end: str) -> Bool:
        """See JsonValues."""
        return func.substr(text, -len(end)) == end

    def position(self, text: Node, part: str) -> Node:
        """See JsonValues."""
        return func.instr(text, part)

    def ordered(self, text: Node) -> Node:
        """See JsonValues."""
        return text


def json_values(dialect: str) -> JsonValues:
    """Those of a database."""
    return PostgresJson() if dialect == "postgresql" else SqliteJson()


_DOUBLE: Final = "$double"
_MAP: Final = "$map"
_SIMPLE: Final = re.compile(r"[ !#-\[\]-~]+")
"""Keys that a path of SQLite can name between quotes: ASCII, which no JSON escapes, without quotes and backslashes."""


def _arrow(node: Node, key: str) -> Node:
    return node.op("->", return_type=JSONB())(literal(key, Text))


def _arrow_text(node: Node, key: str) -> Node:
    return node.op("->>", return_type=Text())(literal(key, Text))


def _scalar(node: Node) -> Node:
    return node.op("#>>", return_type=Text())(cast(literal("{}", Text), ARRAY(Text)))


def _child(node: Node, key: str) -> Node:
    """The JSON text of an entry."""
    node = cast(node, Text)
    if _SIMPLE.fullmatch(key):
        return node.op("->", return_type=Text())(literal(f'$."{key}"', Text))
    entries = func.json_each(node).table_valued("key", "value", "type").alias()
    as_json = case(
        (entries.c.type.in_(("true", "false", "null")), entries.c.type),
        (entries.c.type == "text", func.json_quote(entries.c.value)),
        (entries.c.type == "real", func.printf("%!.17g", entries.c.value)),
        else_=entries.c.value,
    )
    return select(as_json).where(entries.c.key == literal(key, Text)).limit(1).scalar_subquery()


def _child_value(node: Node, key: str) -> Node:
    return _value(_child(node, key))


def _value(node: Node) -> Node:
    return node.op("->>")(literal("$", Text))
