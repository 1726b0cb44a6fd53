"""A virtual environment for each tracker that is not this one, made once and kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MARK: Final = "installed"
"""Holds what was asked for. One that was cut off has none, and one for other requirements is made anew."""
_SECONDS: Final = 600
_VERSIONS: Final = (
    "import importlib.metadata as m, json, sys; print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
)


class NotInstalled(Exception):
    """pip could not do it. The message is the end of what it said."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a tracker is installed."""

    python: Path
    """Its interpreter."""
    versions: dict[str, str]
    """Of the packages that were asked for."""


def ensure(directory: Path, requirements: Sequence[str]) -> Environment:
    """The environment in this directory; made if it is not there or not of these requirements. Raises NotInstalled."""
    python = directory / "bin" / "python"
    asked = asked_for(requirements)
    mark = directory / _MARK
    if not mark.exists() or mark.read_text(encoding="utf-8") != asked:
        shutil.rmtree(directory, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(directory)])
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements])
        mark.write_text(asked, encoding="utf-8")
    versions = json.loads(_run([str(python), "-c", _VERSIONS, *map(package, requirements)]))
    return Environment(python, versions)


def asked_for(requirements: Sequence[str]) -> str:
    """What an environment is made from, as a text to compare."""
    return "\n".join([f"python {sys.version_info.major}.{sys.version_info.minor}", *requirements]) + "\n"


def package(requirement: str) -> str:
    """The name in a requirement: mlflow of mlflow[extras]>=3."""
    for end, character in enumerate(requirement):
        if not (character.isalnum() or character in "-_."):
            return requirement[:end]
    return requirement


def _run(command: list[str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as late:
        raise NotInstalled(f"not done within {late.timeout:.0f} s: {' '.join(command[:4])}") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        wrong = [line for line in lines if line.startswith("ERROR")] or lines
        raise NotInstalled(" ".join(wrong[-2:])[:400] or f"exit code {done.returncode}: {' '.join(command[:4])}")
    return done.stdout
