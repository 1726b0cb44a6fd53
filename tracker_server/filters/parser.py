"""From a filter's text to its tree, and from an order's text to its fields."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path as File
from typing import Any, Final, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken, VisitError

from tracker_server.filters.syntax import (
    MAX_DEPTH,
    And,
    Comparison,
    FilterError,
    Literal,
    Not,
    Or,
    Path,
    Search,
    Tree,
)


@dataclass(frozen=True, slots=True)
class OrderField:
    """A field to order by."""

    path: Path
    descending: bool


def parse_filter(text: str) -> Tree | None:
    """The tree of a filter; None for one that says nothing. Raises FilterError."""
    if not text.strip():
        return None
    try:
        return _parser().parse(text).tree  # type: ignore[attr-defined,no-any-return]  # as _Builder makes it
    except UnexpectedInput as error:
        raise _explained(error, text) from None
    except VisitError as error:
        raise error.orig_exc from None


def parse_order(text: str) -> list[OrderField]:
    """The fields of an order, most important first. Raises FilterError."""
    if not text.strip():
        return []
    fields, position = [], 0
    while True:
        found = _ORDER_FIELD.match(text, position)
        if found is None:
            begin = len(text) - len(text[position:].lstrip())
            raise FilterError(
                begin, "expected a field, such as created_at or metrics.loss.min, then desc, asc or a comma"
            )
        direction = (found["direction"] or "").lower()
        fields.append(OrderField(_path(found["path"], found.start("path")), direction == "desc"))
        position = found.end()
        if position == len(text):
            return fields


class _Node:
    """A part of the tree and how deep it is."""

    __slots__ = ("depth", "tree")

    def __init__(self, tree: Tree, depth: int = 1) -> None:
        self.tree = tree
        self.depth = depth


class _Builder(Transformer[Token, Any]):
    """Called by the parser as it goes along, so that nothing here calls itself, however deep a filter is."""

    def expression(self, parts: list[_Node]) -> _Node:
        return _joined(And, parts)

    def sequence(self, parts: list[_Node]) -> _Node:
        return _joined(And, parts)

    def factor(self, parts: list[_Node]) -> _Node:
        return _joined(Or, parts)

    def negated(self, parts: list[_Node]) -> _Node:
        return _Node(Not(parts[0].tree), _deeper(parts[0].depth, parts[0].tree))

    def inner(self, parts: list[_Node]) -> _Node:
        return _Node(parts[0].tree, _deeper(parts[0].depth, parts[0].tree))

    def restriction(self, parts: list[Token]) -> _Node:
        path = parts[0]
        if len(parts) == 1:
            return _Node(_search(path))
        return _Node(Comparison(_path(str(path), _at(path)), str(parts[1]), _literal(parts[2])))


def _joined(kind: Callable[[tuple[Tree, ...]], Tree], parts: list[_Node]) -> _Node:
    trees = tuple(part.tree for part in parts)
    return _Node(kind(trees), _deeper(max(part.depth for part in parts), trees[0]))


def _deeper(depth: int, tree: Tree) -> int:
    if depth >= MAX_DEPTH:
        raise FilterError(_begin(tree), f"is nested more than {MAX_DEPTH} levels deep")
    return depth + 1


def _begin(tree: Tree) -> int:
    while isinstance(tree, Not | And | Or):
        tree = tree.part if isinstance(tree, Not) else tree.parts[0]
    return tree.path.position if isinstance(tree, Comparison) else tree.literal.position


def _search(token: Token) -> Search:
    quoted = token.type == "STRING"
    word = ".".join(_path(str(token), 0).names)
    if not quoted and word.upper() in _KEYWORDS:
        raise FilterError(_at(token), f"is no word to search for: write {word.upper()}, or quote it")
    return Search(Literal(word, quoted, _at(token)))


def _path(text: str, position: int) -> Path:
    return Path(tuple(_unquoted(name) for name in _SEGMENT.findall(text)), position)


def _literal(token: Token) -> Literal:
    quoted = token.type == "STRING"
    if not quoted and str(token) in _KEYWORDS:
        raise FilterError(_at(token), "is no value; quote it if it is meant as one")
    raw = str(token)[1:-1] if quoted else str(token)
    ends = raw.endswith("*") and (len(raw) - 1 - len(raw[:-1].rstrip("\\"))) % 2 == 0
    # A * alone is one star, not two.
    stars = (raw.startswith("*") and len(raw) > 1, ends)
    return Literal(_unquoted(str(token)), quoted, _at(token), stars)


def _at(token: Token) -> int:
    return token.start_pos or 0


def _unquoted(text: str) -> str:
    if text[:1] in ('"', "'"):
        return _ESCAPE.sub(r"\1", text[1:-1])
    return text


def _explained(error: UnexpectedInput, text: str) -> FilterError:
    expected: set[str] = set()
    # At the end there is no position.
    found = cast("int | None", error.pos_in_stream)
    position = len(text) if found is None or found < 0 else found
    if isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
        if error.token.type == "$END":
            position = len(text)
    elif isinstance(error, UnexpectedCharacters):
        expected = set(error.allowed or ())
    elif isinstance(error, UnexpectedEOF):
        position = len(text)
    if text[position : position + 1] in ('"', "'"):
        return FilterError(position, "begins a quotation that does not end")
    wanted = sorted({_NAMES[name] for name in expected if name in _NAMES})
    said = f"expected {', '.join(wanted[:-1])} or {wanted[-1]}" if len(wanted) > 1 else f"expected {''.join(wanted)}"
    return FilterError(position, said if wanted else "is not expected here")


@cache
def _parser() -> Lark:
    grammar = File(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", transformer=_Builder(), maybe_placeholders=False)


_KEYWORDS: Final = frozenset({"AND", "OR", "NOT"})
_NAMES: Final = {
    "PATH": "a field",
    "STRING": "a quoted text",
    "WORD": "a value",
    "OPERATOR": "an operator (= != < <= > >= :)",
    "_AND": "AND",
    "_OR": "OR",
    "_OPEN": "(",
    "_CLOSE": ")",
    "$END": "the end",
}
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_QUOTED: Final = r'"(?:\\.|[^"\\])*"|' + r"'(?:\\.|[^'\\])*'"
_SEGMENT: Final = re.compile(rf"{_QUOTED}|[^\s\"',.]+", re.DOTALL)
_ORDER_FIELD: Final = re.compile(
    rf"\s*(?P<path>(?:{_QUOTED}|[^\s\"',.]+)(?:\.(?:{_QUOTED}|[^\s\"',.]+))*)"
    r"(?:\s+(?P<direction>[aA][sS][cC]|[dD][eE][sS][cC]))?\s*(?:,(?=\s*\S)|$)",
    re.DOTALL,
)
