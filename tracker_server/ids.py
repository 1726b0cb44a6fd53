"""What an id looks like, and new ones."""

from __future__ import annotations

import re
import uuid
from typing import Final

from tracker_server import limits

ID: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{limits.MAX_ID_LENGTH}}}")
"""A run, experiment or writer id, when all of it matches."""


def new_id() -> str:
    """A random id: 32 characters, never made before."""
    return uuid.uuid4().hex
