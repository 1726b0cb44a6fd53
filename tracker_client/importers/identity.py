"""What makes an import the same import: ids that follow from the source, so that a second one changes nothing.

A run's id follows from the *key* of its source, which stays the same while files grow. A writer's id follows from key,
content and attempt: the same bytes are the same writes, and other bytes are another writer, of a newer attempt.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable
from pathlib import Path

from tracker_client.importers.records import RunSource

LAYOUT = "1"
"""Changes whenever the same bytes would give other requests than before: then it is another content."""
MAX_ID_LENGTH = 128
_NAMESPACE = uuid.UUID("6a0a57f1-6d0b-5c3e-9f0e-3f6f1d1f2b11")
_READABLE_LENGTH = 80
_DIGITS = 12
_BLOCK = 1024 * 1024


def id_from_text(text: str) -> str:
    """An id that reads like a text: the text itself where it can be an id, else with a hash of it, since two texts must
    not become one id.
    """
    cleaned = _clean(text)
    return text if text and cleaned == text and len(text) <= MAX_ID_LENGTH else _with_hash(cleaned, text)


def id_from_key(readable: Iterable[str], key: str) -> str:
    """An id of some readable parts and a hash of the key."""
    return _with_hash(_clean("-".join(readable)), key)


def writer_id(key: str, content: str, attempt: int) -> str:
    """The writer of an import."""
    # Paths may have bytes that are no text.
    name = "\0".join((key, content, str(attempt))).encode(errors="surrogateescape")
    return str(uuid.uuid5(_NAMESPACE, hashlib.sha256(name).hexdigest()))


def content_of(source: RunSource) -> str:
    """A hash of all that a source's requests are made of. Raises OSError."""
    digest = hashlib.sha256(f"{LAYOUT}\0{source.format}\0".encode())
    for path in source.files:
        with path.open("rb") as file:
            inner = hashlib.file_digest(file, "sha256")
        digest.update(f"{path.name}\0{inner.hexdigest()}\0".encode(errors="surrogateescape"))
    return f"{LAYOUT}-{digest.hexdigest()}"


def stamp_of(source: RunSource) -> tuple[tuple[int, int], ...]:
    """Size and time of change of each file: another one, and the files were written to meanwhile. Raises OSError."""
    return tuple((status.st_size, status.st_mtime_ns) for status in (path.stat() for path in source.files))


def changed_ms(source: RunSource) -> int:
    """When its files last changed, in milliseconds since 1970-01-01 UTC. Raises OSError."""
    return max(changed_ns for _, changed_ns in stamp_of(source)) // 1_000_000


def readable_parts(path: Path, generic: Iterable[str] = ()) -> list[str]:
    """The last parts of a path that tell people which run it is. generic: names of files that tell nothing."""
    parts = [part for part in path.with_suffix("").parts if part != path.anchor]
    if parts and parts[-1] in set(generic):
        parts.pop()
    return parts[-3:] or ["root"]


def _clean(text: str) -> str:
    return re.sub("[^A-Za-z0-9._-]+", "-", text).strip("-")


def _with_hash(cleaned: str, text: str) -> str:
    digits = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]
    return f"{cleaned[-_READABLE_LENGTH:].strip('-') or 'run'}-{digits}"
