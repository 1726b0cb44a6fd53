"""The fields of a run that can be asked for, and what they can be compared with."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, TypeAlias

from tracker_server import limits
from tracker_server.filters.syntax import FilterError, Path

MAX_KEYS: Final = limits.MAX_CONFIG_DEPTH
"""Of a path into a config."""
STATISTICS: Final = ("last", "min", "max", "mean", "count", "final")
"""What is known of a metric of a run."""


@dataclass(frozen=True, slots=True)
class TextField:
    """A text; empty counts as missing."""

    column: str


@dataclass(frozen=True, slots=True)
class IntField:
    """A whole number."""

    column: str


@dataclass(frozen=True, slots=True)
class TimeField:
    """A moment, in milliseconds since 1970-01-01 UTC."""

    column: str


@dataclass(frozen=True, slots=True)
class BoolField:
    """True or false."""

    column: str


@dataclass(frozen=True, slots=True)
class StatusField:
    """The run's status."""


@dataclass(frozen=True, slots=True)
class TagsField:
    """The labels."""


@dataclass(frozen=True, slots=True)
class EntryField:
    """An entry of a map of texts."""

    column: str
    key: str


@dataclass(frozen=True, slots=True)
class KeysField:
    """A map itself: has it a key?"""

    column: str


@dataclass(frozen=True, slots=True)
class ConfigField:
    """A value of the config, of whatever type."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FinalField:
    """A final metric of the newest attempt."""

    name: str


@dataclass(frozen=True, slots=True)
class MetricField:
    """A statistic of a metric over its live points; "value": its final value, else the last one."""

    name: str
    statistic: str


Field: TypeAlias = (
    "TextField | IntField | TimeField | BoolField | StatusField | TagsField | EntryField | KeysField | ConfigField"
    " | FinalField | MetricField"
)

_PLAIN: Final[dict[str, Field]] = {
    "run_id": TextField("run_id"),
    "experiment_id": TextField("experiment_id"),
    "name": TextField("name"),
    "notes": TextField("notes"),
    "group": TextField("run_group"),
    "parent_run_id": TextField("parent_run_id"),
    "reason": TextField("reason"),
    "stop_reason": TextField("stop_reason"),
    "status": StatusField(),
    "attempt": IntField("attempt"),
    "stop_requested": BoolField("stop_requested"),
    "tags": TagsField(),
    **{
        alias: TimeField(f"{column}_ms")
        for column, aliases in {
            "created": ("created_at", "create_time"),
            "started": ("started_at", "start_time"),
            "ended": ("ended_at", "end_time"),
            "last_seen": ("last_seen_at",),
            "lost": ("lost_since",),
            "deleted": ("deleted_at", "delete_time"),
            "points_dropped": ("points_dropped_at",),
        }.items()
        for alias in aliases
    },
}
_MAPS: Final = ("metadata", "artifacts")
_NESTED: Final = (*_MAPS, "config", "final_metrics", "metrics")


def resolve(path: Path) -> Field:
    """The field that a path names. Raises FilterError."""
    first, *rest = path.names
    if first in _PLAIN and not rest:
        return _PLAIN[first]
    if first in _PLAIN:
        raise FilterError(path.position, f"is {first}.{'.'.join(rest)}; {first} has no parts")
    if first not in _NESTED:
        near = get_close_matches(first, [*_PLAIN, *_NESTED], 1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise FilterError(path.position, f"is {first!r}, which is no field{hint} The fields are {_LISTED}")
    if first in _MAPS:
        return EntryField(first, ".".join(rest)) if rest else KeysField(first)
    if not rest:
        raise FilterError(path.position, f"is {first} alone; name one of it: {_EXAMPLES[first]}")
    if first == "config":
        if len(rest) > MAX_KEYS:
            raise FilterError(path.position, f"has {len(rest)} keys; no config is more than {MAX_KEYS} levels deep")
        return ConfigField(tuple(rest))
    if first == "final_metrics":
        return FinalField(".".join(rest))
    if len(rest) > 1 and rest[-1] in STATISTICS:
        return MetricField(".".join(rest[:-1]), rest[-1])
    return MetricField(".".join(rest), "value")


_EXAMPLES: Final = {
    "config": "config.model.depth",
    "final_metrics": "final_metrics.accuracy",
    "metrics": f'metrics."val/loss".last ({", ".join(STATISTICS)})',
}
_LISTED: Final = ", ".join([*_PLAIN, *(f"{name}.KEY" for name in _NESTED)])
