"""Configs that frameworks write into a file beside their log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tracker_client.config import ConfigError, to_config
from tracker_client.importers.records import Problem, RunSource
from tracker_client.importers.yaml_file import YamlError, load_yaml

SIDE_FILES = ("hparams.yaml", "args.yaml", "params.json")
"""Of Lightning, YOLO and RLlib."""
MAX_CONFIG_BYTES = 256 * 1024


def read_side_config(source: RunSource) -> tuple[dict[str, object], list[Problem]]:
    """The configs beside a run's log, merged, and what could not be read of them."""
    config: dict[str, object] = {}
    problems = []
    for path in source.files:
        if path.name in SIDE_FILES:
            try:
                config |= _load(path)
            except (YamlError, ValueError, OSError) as error:
                problems.append(Problem(str(path), f"the config was left out: {error}"))
    return config, problems


def sendable(config: dict[str, Any], path: str) -> tuple[dict[str, object], list[Problem]]:
    """The entries of a config that can be sent, dates and the like as text, and what was left out."""
    good: dict[str, object] = {}
    problems = []
    size = 0
    for key, value in config.items():
        try:
            plain = {str(key): _plain(value)}
            entry = to_config(plain).ByteSize()
            _check(str(key), size + entry)
        except (ConfigError, RecursionError) as error:
            problems.append(Problem(path, f"left out of the config: {error}", f"key {str(key)[:60]!r}"))
        else:
            good |= plain
            size += entry
    return good, problems


def _load(path: Path) -> dict[str, object]:
    loaded = json.loads(path.read_bytes()) if path.suffix == ".json" else load_yaml(path)
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"it holds a {type(loaded).__name__}, not a map")
    return loaded


def _check(key: str, size: int) -> None:
    if not 1 <= len(key) <= 256 or "\0" in key:
        raise ConfigError("keys have 1 to 256 characters and no U+0000")
    if size > MAX_CONFIG_BYTES:
        raise ConfigError(f"the whole config would have {size} bytes; at most {MAX_CONFIG_BYTES} are taken")


def _plain(value: object) -> object:
    """A value that a config can hold: keys as text, other objects too, integers of over 64 bits as floats."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 64 else str(value)
    return str(value)
