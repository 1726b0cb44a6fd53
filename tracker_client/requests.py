"""The requests that a run makes beside its points, as messages; what cannot be sent as it is made so that it can."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as calls
from tracker_client.config import MAX_DEPTH, ConfigError, to_config

MAX_NAME: Final = 256
"""Characters of a name, a tag and a key."""
MAX_TEXT: Final = 65_536
"""Characters of notes, a metadata value and a URI."""
MAX_CONFIG_BYTES: Final = 256 * 1024
MAX_ENTRIES: Final = 1_000
"""Entries of a map, and tags, in one request."""


def config_message(config: object) -> tuple[data.ConfigMap, list[str]]:
    """The message of a config (a mapping, a dataclass, or a namespace as argparse makes it), and what had to be changed.

    What no config can hold is sent as its text. Raises ConfigError for something that has no names at all, or is too
    large.
    """
    changed: list[str] = []
    message = to_config(_sendable(_mapping(config), "config", 1, changed))
    if message.ByteSize() > MAX_CONFIG_BYTES:
        raise ConfigError(f"config has {message.ByteSize()} bytes; at most {MAX_CONFIG_BYTES} can be sent")
    return message, changed


def sent_as_text(places: list[str]) -> str:
    """What to say of a config that had to be changed."""
    return f"config: sent as text, having no other form: {', '.join(places[:10])}"


def texts(values: object) -> dict[str, str]:
    """Free keys and values as they can be sent: as texts, and cut where they are too long.

    None is none. Something without keys gets one: "value".
    """
    clean = ((_text(key, MAX_NAME), _text(value, MAX_TEXT)) for key, value in _entries(values))
    return dict([pair for pair in clean if pair[0]][:MAX_ENTRIES])


def tag_list(tags: object) -> list[str]:
    """Tags as they can be sent. A single one is welcome too; None is none."""
    if tags is None:
        return []
    listed = [tags] if isinstance(tags, str) or not isinstance(tags, Iterable) else tags
    return [text for text in dict.fromkeys(_text(tag, MAX_NAME) for tag in listed) if text][:MAX_ENTRIES]


def label(text: object) -> str:
    """A name for people as it can be sent."""
    return "" if text is None else _text(text, MAX_NAME)


def notes_text(text: object) -> str:
    """Notes as they can be sent."""
    return "" if text is None else _text(text, MAX_TEXT)


def timestamp(time_ms: int) -> Timestamp:
    """Milliseconds since 1970 as a message."""
    message = Timestamp()
    message.FromMilliseconds(time_ms)
    return message


def run_changes(
    *,
    config: data.ConfigMap | None = None,
    tags: object = None,
    metadata: object = None,
    artifacts: object = None,
    name: object = "",
    notes: object = "",
    group: object = "",
    parent: object = "",
) -> calls.RunChanges:
    """Changes of a run, each as it can be sent."""
    return calls.RunChanges(
        config=config,
        tags=tag_list(tags),
        metadata=texts(metadata),
        artifacts=texts(artifacts),
        name=label(name),
        notes=notes_text(notes),
        group=label(group),
        parent_run_id=label(parent),
    )


GOALS: Final[Mapping[str, data.MetricGoal.ValueType]] = {
    "": data.METRIC_GOAL_UNSPECIFIED,
    "minimize": data.METRIC_GOAL_MINIMIZE,
    "maximize": data.METRIC_GOAL_MAXIMIZE,
}
"""What a metric is to become, by the name that callers use."""


def metric_definition(
    name: object, goal: object, x: object, unit: object, description: object
) -> data.MetricDefinition:
    """What a metric means, as it can be sent. Raises ValueError for no name, or another goal."""
    if goal not in GOALS:
        raise ValueError(f"goal is {goal!r}; it must be 'minimize' or 'maximize', or empty")
    named = label(name)
    if not named:
        raise ValueError("define_metric() was given no name")
    return data.MetricDefinition(
        name=named, goal=GOALS[str(goal)], x_metric=label(x), unit=label(unit), description=notes_text(description)
    )


def _entries(values: object) -> list[tuple[object, object]]:
    if values is None:
        return []
    try:
        return list(dict(values).items())  # type: ignore[call-overload]  # whatever dict() takes is welcome
    except Exception:  # noqa: BLE001 - training goes on, and what was given is kept in some form
        return [("value", values)]


def _mapping(config: object) -> Mapping[Any, object]:
    if isinstance(config, Mapping):
        return config
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    try:
        return dict(vars(config))
    except TypeError:
        raise ConfigError(
            f"config is a {type(config).__name__}; it must be a dict, a dataclass or a namespace"
        ) from None


def _sendable(value: object, path: str, depth: int, changed: list[str]) -> Any:
    if isinstance(value, Enum):
        return _sendable(value.value, path, depth, changed)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = _mapping(value)
    if isinstance(value, set | frozenset):
        value = sorted(value, key=lambda item: _text(item, MAX_TEXT))
    if depth > MAX_DEPTH and isinstance(value, Mapping | list | tuple):
        changed.append(path)
        return _text(value, MAX_TEXT)
    if isinstance(value, Mapping):
        return {
            _key(key, path, changed): _sendable(v, f"{path}[{key!r}]", depth + 1, changed) for key, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [_sendable(item, f"{path}[{index}]", depth + 1, changed) for index, item in enumerate(value)]
    if isinstance(value, str):
        return _text(value, MAX_TEXT)
    try:
        to_config({"value": value})
    except ConfigError:
        changed.append(path)
        return _text(value, MAX_TEXT)
    return value


def _key(key: object, path: str, changed: list[str]) -> str:
    text = _text(key, MAX_NAME)
    if text != key or not text:
        changed.append(f"{path}[{key!r}]")
    return text or "_"


def _text(value: object, longest: int) -> str:
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception:  # noqa: BLE001 - somebody else's object, or an int of more digits than Python prints
        text = f"<{type(value).__name__}>"
    # Lone surrogates have no UTF-8, and a server takes no U+0000.
    return text.encode(errors="replace").decode().replace("\0", "")[:longest]
