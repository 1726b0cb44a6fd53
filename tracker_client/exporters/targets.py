"""Where an export is written to: a file that appears whole or not at all, or an open stream."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def open_target(path: Path) -> Iterator[BinaryIO]:
    """A file to write to under a name of its own, which takes the place of `path` at the end; removed after an error.

    A link is followed, and what is no regular file (a device, a pipe) is written to directly.

    Raises OSError.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as direct:
            yield direct
        return
    partial = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
