"""Ids of runs and experiments: what servers take, made, and made from what they do not take."""

from __future__ import annotations

import re
import secrets
import time
from typing import Final

MAX_LENGTH: Final = 128
_FORBIDDEN: Final = re.compile(r"[^A-Za-z0-9._-]+")
_ALPHABET: Final = "0123456789abcdefghijkmnpqrstuvwxyz"
_RANDOM_LENGTH: Final = 8


def new_run_id() -> str:
    """An id that sorts by time and that nobody else has: the UTC time, and forty random bits."""
    chosen = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{chosen}"


def usable_id(text: str) -> str:
    """The id that a server takes which is nearest to a text; empty when nothing of it is left."""
    if len(text) <= MAX_LENGTH and not _FORBIDDEN.search(text):
        return text
    return _FORBIDDEN.sub("-", text)[:MAX_LENGTH].strip("-")
