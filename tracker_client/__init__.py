"""What training jobs and services use of the tracker.

Importing it imports next to nothing; each name is loaded when it is first used. A run needs the standard library,
protobuf and the stubs; the clients for services need grpc as well.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker_client.aio import AsyncTrackerClient
    from tracker_client.client import TrackerClient
    from tracker_client.config import ConfigError, from_config, to_config
    from tracker_client.errors import TrackerError
    from tracker_client.run import Run
    from tracker_client.settings import BadSetting
    from tracker_client.start import init

_PLACES = {
    "AsyncTrackerClient": "aio",
    "BadSetting": "settings",
    "ConfigError": "config",
    "Run": "run",
    "TrackerClient": "client",
    "TrackerError": "errors",
    "from_config": "config",
    "init": "start",
    "to_config": "config",
}

__all__ = [
    "AsyncTrackerClient",
    "BadSetting",
    "ConfigError",
    "Run",
    "TrackerClient",
    "TrackerError",
    "from_config",
    "init",
    "to_config",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
