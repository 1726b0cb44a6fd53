"""The names of a row's values: which are right, and how a row of them is packed."""

from __future__ import annotations

import struct
from typing import Final

from tracker_client.journal import frames

WIDEST_ROW_BYTES: Final = 256 * 1024
"""A row, its names included, is no larger; callers split wider ones."""
LONGEST_NAME: Final = 256
"""Characters of a metric's name; servers take no longer ones."""
_BLOCK_OVERHEAD: Final = 20
"""Bytes of a block's encoding beside its columns, steps and times."""
_COLUMN_OVERHEAD: Final = 12
"""Bytes of a column's encoding beside its name and values."""


class TooWide(ValueError):
    """A row has too many metrics for one frame."""


class Schema:
    """The names of a row's values, and how it is packed."""

    __slots__ = (
        "columns",
        "frame_bytes",
        "names",
        "names_bytes",
        "pack_into",
        "payload_bytes",
        "row_bytes",
        "sequence",
        "tag",
    )

    def __init__(self, names: tuple[str, ...]) -> None:
        """Raises what check_names does, and TooWide."""
        check_names(names)
        self.names = names
        self.columns = len(names)
        self.names_bytes = _BLOCK_OVERHEAD + sum(len(name.encode()) + _COLUMN_OVERHEAD for name in names)
        """Bytes that it adds to a batch's encoding, beside its rows."""
        self.row_bytes = 8 * (len(names) + 2)
        """Bytes that a row adds to a batch's encoding."""
        if self.row_bytes + self.names_bytes > WIDEST_ROW_BYTES:
            raise TooWide(f"a row of {len(names)} metrics")
        row = struct.Struct(f"{frames.ROW_PREFIX.format}{len(names)}d")
        self.pack_into = row.pack_into
        self.payload_bytes = row.size
        self.frame_bytes = frames.frame_size(row.size)
        self.tag = 0
        """Of its rows in the present segment."""
        self.sequence = 0
        """The batch that its names were last counted in."""


def check_names(names: tuple[str, ...]) -> None:
    """Raises ValueError or TypeError, which names the first metric name that no server takes."""
    if not names:
        raise ValueError("no metrics were given")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"the metric name {name!r} is of type {type(name).__name__}; it must be str")
        if not 1 <= len(name) <= LONGEST_NAME:
            raise ValueError(f"the metric name {name[:40]!r} has {len(name)} characters; 1 to {LONGEST_NAME} are right")
        if name.isprintable():
            continue
        if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
            raise ValueError(f"the metric name {name!r} has control characters")
        if any(0xD800 <= ord(c) < 0xE000 for c in name):
            raise ValueError(f"the metric name {name!r} has a lone surrogate, which no UTF-8 can hold")
