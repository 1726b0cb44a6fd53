"""YAML, by PyYAML where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracker_client.importers.records import MissingPackageError


class YamlError(Exception):
    """A file is no YAML, or holds objects of a program. The message says where."""


def load_yaml(path: Path) -> Any:
    """What a file holds. Raises YamlError, OSError and MissingPackageError."""
    try:
        import yaml
    except ImportError as error:
        raise MissingPackageError("YAML files", "pyyaml") from error
    # The C parser is ten times as fast, where PyYAML was built with it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with path.open("rb") as file:
        try:
            return yaml.load(file, Loader=loader)  # noqa: S506 - both loaders are safe ones
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise YamlError(_brief(error)) from error


def _brief(error: Exception) -> str:
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem and mark:
        return f"{problem} in line {mark.line + 1}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
