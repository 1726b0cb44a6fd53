"""The client's settings: from the environment, or as `init` is told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar

DEFAULT_SERVER: Final = "127.0.0.1:50051"
"""Where `tracker_server up` listens by default."""
DEFAULT_DIRECTORY: Final = ".tracker"
DEFAULT_JOURNAL_BYTES: Final = 8 * 1024**3
"""Some eighty million points of ten metrics a row, or half an hour at a rate at which nobody trains."""

_LONGEST_SERVER: Final = 1_000
"""Characters. It stands in the header of each of a journal's segments."""

_Default = TypeVar("_Default")


class BadSetting(ValueError):
    """A setting (server, API key, timeout, …) is wrong. The message names it and says what would be right."""


class Mode(Enum):
    """What becomes of what is logged."""

    ONLINE = "online"
    """Into the journal, and to the server as soon as it takes it."""
    OFFLINE = "offline"
    """Into the journal only; `tracker sync` sends it."""
    DISABLED = "disabled"
    """Nowhere: every call does nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them."""

    server: str = DEFAULT_SERVER
    """HOST:PORT, or a URL whose scheme says whether to use TLS."""
    api_key: str = ""
    """Sent with every call; empty: none. Never written to disk."""
    directory: Path = Path(DEFAULT_DIRECTORY)
    """Where journals are."""
    mode: Mode = Mode.ONLINE
    journal_bytes: int = DEFAULT_JOURNAL_BYTES
    """How large all journals in the directory together may get; new points are dropped beyond it."""
    run_id: str = ""
    """Of the run, for launchers that start several processes of one run; empty: init says, or makes one."""
    attempt: int | None = None
    """The attempt's number, at least 0; None: the time of the start."""
    rank: int | None = None
    """Position of this process among those that write to one run; None: as the launcher's variables say, else alone."""


def load_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads the variables TRACKER_…. Raises BadSetting."""
    return Settings(
        server=_server("TRACKER_SERVER", environment.get("TRACKER_SERVER") or DEFAULT_SERVER),
        api_key=environment.get("TRACKER_API_KEY", ""),
        directory=Path(environment.get("TRACKER_DIR") or DEFAULT_DIRECTORY),
        mode=_mode("TRACKER_MODE", environment.get("TRACKER_MODE") or Mode.ONLINE.value),
        journal_bytes=_number(environment, "TRACKER_JOURNAL_BYTES", DEFAULT_JOURNAL_BYTES),
        run_id=environment.get("TRACKER_RUN_ID", ""),
        attempt=_number(environment, "TRACKER_ATTEMPT", None),
        rank=_number(environment, "TRACKER_RANK", None),
    )


def with_overrides(
    settings: Settings,
    *,
    server: str | None,
    api_key: str | None,
    directory: str | Path | None,
    mode: str | None,
    attempt: int | None,
    rank: int | None,
) -> Settings:
    """The settings with what is not None in their place. Raises BadSetting."""
    for name, value in (("attempt", attempt), ("rank", rank)):
        if value is not None and not (isinstance(value, int) and 0 <= value < 2**63):
            raise BadSetting(f"{name} is {value!r}; it must be a whole number from 0 to 2^63 - 1")
    return replace(
        settings,
        server=settings.server if server is None else _server("server", server),
        api_key=settings.api_key if api_key is None else api_key,
        directory=settings.directory if directory is None else Path(directory),
        mode=settings.mode if mode is None else _mode("mode", mode),
        attempt=settings.attempt if attempt is None else attempt,
        rank=settings.rank if rank is None else rank,
    )


def _server(name: str, text: str) -> str:
    if len(text) > _LONGEST_SERVER:
        raise BadSetting(f"{name} has {len(text)} characters; it must be HOST:PORT, {_LONGEST_SERVER} at most")
    return text


def _mode(name: str, text: str) -> Mode:
    try:
        return Mode(text.lower())
    except (ValueError, AttributeError):
        right = ", ".join(one.value for one in Mode)
        raise BadSetting(f"{name} is {text!r}; it must be one of {right}") from None


def _number(environment: Mapping[str, str], name: str, default: _Default) -> int | _Default:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) >= 2**63:
        raise BadSetting(f"{name} is {text!r}; it must be a whole number from 0 to 2^63 - 1")
    return int(text)
