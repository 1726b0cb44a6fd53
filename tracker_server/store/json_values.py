"""Values within JSON columns as SQL, the same for both databases. How they are written is told in model/typed_json.py.

Keys and values are bound parameters. A place is what `at` gives: a value that may not be there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Numeric,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB

from tracker_server.model.typed_json import Json, encode_double
from tracker_server.store.tables import runs

Node: TypeAlias = ColumnElement[Any]
Bool: TypeAlias = ColumnElement[bool]
Scalar: TypeAlias = "str | float | bool | None"
_Place = TypeVar("_Place")


class JsonValues(Protocol[_Place]):
    """What conditions need of JSON, and of texts, where the databases differ."""

    def at(self, root: Node, keys: Sequence[str]) -> _Place:
        """The place at the end of these keys, through maps that are wrapped too."""

    def present(self, place: _Place) -> Bool:
        """Whether there is a value."""

    def number(self, place: _Place) -> Node:
        """Its number; NULL for NaN and for everything that is none."""

    def text(self, place: _Place) -> Node:
        """Its text; NULL for everything that is none."""

    def truth(self, place: _Place) -> Node:
        """1 or 0; NULL for everything but true and false."""

    def is_null(self, place: _Place) -> Bool:
        """Whether it is JSON's null."""

    def is_nan(self, place: _Place) -> Bool:
        """Whether it is NaN."""

    def has_item(self, place: _Place, value: Scalar) -> Bool:
        """Whether it is a list with this item."""

    def some_text(self, root: Node, meets: Callable[[Node], Bool]) -> Bool:
        """Whether one of a list's texts meets a condition."""

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
            # By a subquery each level's value is named once, however deep; OFFSET 0 keeps it from being written out again.
            above = _named(node)
            value: Node = above.c.value
            wrapped = _arrow(_arrow(value, _MAP), key)
            found = wrapped if key.startswith("$") else func.coalesce(_arrow(value, key), wrapped, type_=JSONB)
            node = select(found).select_from(above).scalar_subquery()
        return node

    def present(self, place: Node) -> Bool:
        """See JsonValues."""
        return place.is_not(None)

    def number(self, place: Node) -> Node:
        """See JsonValues. As numeric: exact for every integer and double."""
        return _of(
            place,
            lambda node: case(
                (func.jsonb_typeof(node) == "number", cast(_scalar(node), Numeric)),
                (
                    and_(func.jsonb_typeof(node) == "object", _arrow_text(node, _DOUBLE) != "nan"),
                    cast(_arrow_text(node, _DOUBLE), Numeric),
                ),
            ),
        )

    def text(self, place: Node) -> Node:
        """See JsonValues."""
        return _of(place, lambda node: case((func.jsonb_typeof(node) == "string", _scalar(node))))

    def truth(self, place: Node) -> Node:
        """See JsonValues."""
        one_or_zero = case((_scalar(place) == "true", 1), else_=0)
        return case((func.jsonb_typeof(place) == "boolean", one_or_zero))

    def is_null(self, place: Node) -> Bool:
        """See JsonValues."""
        return func.jsonb_typeof(place) == "null"

    def is_nan(self, place: Node) -> Bool:
        """See JsonValues."""
        return and_(func.jsonb_typeof(place) == "object", _arrow_text(place, _DOUBLE) == "nan")

    def has_item(self, place: Node, value: Scalar) -> Bool:
        """See JsonValues."""
        wanted = cast(literal(json.dumps([_encoded(value)]), Text), JSONB)
        return and_(func.jsonb_typeof(place) == "array", place.op("@>")(wanted))

    def some_text(self, root: Node, meets: Callable[[Node], Bool]) -> Bool:
        """See JsonValues."""
        items = func.jsonb_array_elements_text(root).table_valued("value").alias()
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


@dataclass(frozen=True, slots=True)
class SqlitePlace:
    """A column and a list of keys, as JSON."""

    root: Node
    keys: Node


class SqliteJson:
    """SQLite, with the functions of store/sqlite_functions.py."""

    def at(self, root: Node, keys: Sequence[str]) -> SqlitePlace:
        """See JsonValues."""
        return SqlitePlace(type_coerce(root, Text), literal(json.dumps(keys), Text))

    def present(self, place: SqlitePlace) -> Bool:
        """See JsonValues."""
        return _kind(place).is_not(None)

    def number(self, place: SqlitePlace) -> Node:
        """See JsonValues. Integers stay such."""
        return func.config_number(place.root, place.keys)

    def text(self, place: SqlitePlace) -> Node:
        """See JsonValues."""
        return func.config_text(place.root, place.keys, type_=Text)

    def truth(self, place: SqlitePlace) -> Node:
        """See JsonValues."""
        return func.config_truth(place.root, place.keys, type_=Integer)

    def is_null(self, place: SqlitePlace) -> Bool:
        """See JsonValues."""
        return _kind(place) == "null"

    def is_nan(self, place: SqlitePlace) -> Bool:
        """See JsonValues."""
        return _kind(place) == "nan"

    def has_item(self, place: SqlitePlace, value: Scalar) -> Bool:
        """See JsonValues."""
        return func.config_has(place.root, place.keys, literal(json.dumps(_encoded(value)), Text)) == 1

    def some_text(self, root: Node, meets: Callable[[Node], Bool]) -> Bool:
        """See JsonValues."""
        items = func.json_each(root).table_valued("value").alias()
        return exists(select(1).select_from(items).where(meets(cast(items.c.value, Text))))

    def entry(self, root: Node, key: str) -> Node:
        """See JsonValues."""
        return self.text(self.at(root, [key]))

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


def json_values(dialect: str) -> JsonValues[Any]:
    """Those of a database."""
    return PostgresJson() if dialect == "postgresql" else SqliteJson()


_DOUBLE: Final = "$double"
_MAP: Final = "$map"


def _encoded(value: Scalar) -> Json:
    return encode_double(value) if isinstance(value, float) else value


def _kind(place: SqlitePlace) -> Node:
    return func.config_kind(place.root, place.keys)


def _of(place: Node, make: Callable[[Node], Node]) -> Node:
    """What is made of a place that occurs several times in it."""
    named = _named(place)
    return select(make(named.c.value)).select_from(named).scalar_subquery()


def _named(node: Node) -> FromClause:
    """A subquery within the condition on a run, whose column is the node."""
    return select(node.label("value")).correlate(runs).offset(literal(0)).subquery()


def _arrow(node: Node, key: str) -> Node:
    return node.op("->", return_type=JSONB())(literal(key, Text))


def _arrow_text(node: Node, key: str) -> Node:
    return node.op("->>", return_type=Text())(literal(key, Text))


def _scalar(node: Node) -> Node:
    return node.op("#>>", return_type=Text())(cast(literal("{}", Text), ARRAY(Text)))
