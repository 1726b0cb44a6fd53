"""What a filter says, as a tree, before anybody has looked at which fields there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

MAX_DEPTH: Final = 50
"""Levels of a filter: what goes through the tree goes down level by level."""


class FilterError(ValueError):
    """A filter or an order that is wrong."""

    def __init__(self, position: int, message: str) -> None:
        """position: of the first character that is wrong, counted from 0."""
        super().__init__(message)
        self.position = position


@dataclass(frozen=True, slots=True)
class Path:
    """A field: names separated by dots."""

    names: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Literal:
    """What a field is compared with, as it was written, without its quotes."""

    text: str
    quoted: bool
    position: int
    stars: tuple[bool, bool] = (False, False)
    """Whether it begins and ends with a * that stands for any text."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field, an operator (= != < <= > >= :) and a value."""

    path: Path
    operator: str
    literal: Literal


@dataclass(frozen=True, slots=True)
class Search:
    """A text on its own."""

    literal: Literal


@dataclass(frozen=True, slots=True)
class Not:
    """What must not hold."""

    part: Tree


@dataclass(frozen=True, slots=True)
class And:
    """All must hold."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One must hold."""

    parts: tuple[Tree, ...]


Tree: TypeAlias = "Comparison | Search | Not | And | Or"
