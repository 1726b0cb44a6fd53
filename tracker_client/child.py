"""The environment in which a process of ours finds the same code that we are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import tracker.v1
import tracker_client

_PACKAGES: Final = ((tracker_client, 0), (tracker.v1, 1))
"""Each with how many directories lie between it and the one that it is imported from."""


def child_environment(api_key: str) -> Mapping[str, str]:
    """The environment with our own packages first on the path, however we were found ourselves, and without accelerators."""
    ours = [str(Path(next(iter(package.__path__))).resolve().parents[depth]) for package, depth in _PACKAGES]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [*ours, os.environ.get("PYTHONPATH", "")])),
        "TRACKER_API_KEY": api_key,
        # It needs none, and must not be one more process that holds one.
        "CUDA_VISIBLE_DEVICES": "",
    }
