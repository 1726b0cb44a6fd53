"""Collects what is wrong with a request."""

from __future__ import annotations

import json
from typing import Final

from tracker_server.errors import InvalidRequest, Violation

MAX_LISTED: Final = 100
"""Violations listed one by one."""
MAX_COUNTED: Final = 10_000
"""Violations after which nobody looks further: a request of 2 MiB has room for a million of them."""


class Violations:
    """What is wrong with one request, in the order in which it was found."""

    __slots__ = ("_count", "_listed")

    def __init__(self) -> None:
        self._listed: list[Violation] = []
        self._count = 0

    def add(self, field: str, description: str) -> None:
        """Notes one. Raises InvalidRequest when there are so many that looking further is a waste."""
        if self._count < MAX_LISTED:
            self._listed.append(Violation(shorten_path(field), description))
        self._count += 1
        if self._count >= MAX_COUNTED:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Raises InvalidRequest with what was noted, if anything was."""
        if not self._listed:
            return
        unlisted = self._count - len(self._listed)
        if unlisted:
            at_least = "at least " if self._count >= MAX_COUNTED else ""
            self._listed.append(Violation("", f"and {at_least}{unlisted} more violations"))
        raise InvalidRequest(self._listed)


def shown(text: str) -> str:
    """A text as descriptions show it: quoted, control characters escaped, cut where it is long."""
    if len(text) <= _SHOWN_CHARACTERS:
        return repr(text)
    return f"{text[:_SHOWN_CHARACTERS]!r}… ({len(text)} characters)"


def entry(field: str, key: str) -> str:
    """The path of a map's entry: `metadata["gpu_type"]`."""
    short = key if len(key) <= _SHOWN_CHARACTERS else key[:_SHOWN_CHARACTERS] + "…"
    return f"{field}[{json.dumps(short, ensure_ascii=False)}]"


def shorten_path(path: str) -> str:
    """A path that is not too long to send: of a deep config, its beginning and its end."""
    if len(path) <= _PATH_CHARACTERS:
        return path
    half = _PATH_CHARACTERS // 2
    return f"{path[:half]}…{path[-half:]}"


_SHOWN_CHARACTERS: Final = 60
_PATH_CHARACTERS: Final = 200
