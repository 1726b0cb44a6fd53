"""Last-writer-wins fields and maps whose order of arrival means nothing.

Each value carries the key of the write that set it; the highest key wins. A map is a register per entry, plus one
"cleared" key: entries set before it are gone, in whatever order the two arrive. Removed entries leave their key
behind, so that an older write does not bring them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from tracker_server.model.typed_json import Json


class Key(NamedTuple):
    """Which of two values wins: the highest. Writer and sequence make every key unique."""

    attempt: int
    time_ms: int
    writer_id: str
    sequence: int


@dataclass(slots=True)
class MapRegister:
    """A map of registers."""

    values: dict[str, Json] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    cleared: Key | None = None

    @classmethod
    def load(cls, values: Mapping[str, Json], saved: Json) -> Self:
        """From the values' own column and what `save` wrote."""
        if not isinstance(saved, dict):
            return cls(dict(values))
        keys = {name: _key(key) for name, key in _dict(saved.get("keys")).items()}
        cleared = saved.get("cleared")
        return cls(dict(values), keys, None if cleared is None else _key(cleared))

    def save(self) -> Json:
        """The keys as JSON; the values go into a column of their own."""
        keys: dict[str, Json] = {name: list(key) for name, key in self.keys.items()}
        return {"keys": keys, "cleared": None if self.cleared is None else list(self.cleared)}

    def set(self, name: str, value: Json, key: Key) -> None:
        """Sets an entry, unless a later write has set, removed or cleared it."""
        if self._wins(name, key):
            self.values[name] = value
            self.keys[name] = key

    def remove(self, name: str, key: Key) -> None:
        """Removes an entry, unless a later write has set it."""
        if self._wins(name, key):
            self.values.pop(name, None)
            self.keys[name] = key

    def clear(self, key: Key) -> None:
        """Removes everything that earlier writes set."""
        if self.cleared is not None and self.cleared >= key:
            return
        self.cleared = key
        for name in [name for name, set_by in self.keys.items() if set_by < key]:
            self.values.pop(name, None)
            del self.keys[name]

    def _wins(self, name: str, key: Key) -> bool:
        before = self.keys.get(name)
        return (before is None or key > before) and (self.cleared is None or key >= self.cleared)


@dataclass(slots=True)
class FieldRegister:
    """One value and the key of the write that set it."""

    value: Json = None
    key: Key | None = None

    @classmethod
    def load(cls, value: Json, saved: Json) -> Self:
        """From the value's own column and what `save` wrote."""
        return cls(value, None if saved is None else _key(saved))

    def save(self) -> Json:
        """The key as JSON."""
        return None if self.key is None else list(self.key)

    def set(self, value: Json, key: Key) -> None:
        """Sets the value, unless a later write has."""
        if self.key is None or key > self.key:
            self.value = value
            self.key = key


def _key(saved: Json) -> Key:
    if not isinstance(saved, list) or len(saved) != len(Key._fields):
        message = f"{saved!r} is no key"
        raise ValueError(message)
    return Key(*saved)  # type: ignore[arg-type]  # written by save, so the types are right


def _dict(saved: Json) -> dict[str, Json]:
    return saved if isinstance(saved, dict) else {}
