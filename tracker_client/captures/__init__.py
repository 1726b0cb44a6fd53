"""What a run records about where it ran: texts for its metadata once, and system metrics while it runs.

Nothing here raises because of what it finds, and nothing beyond the standard library is imported before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from tracker_client.captures.git import capture_git
from tracker_client.captures.host import capture_host
from tracker_client.captures.packages import capture_packages
from tracker_client.captures.process import ProcessFacts, capture_process, this_process
from tracker_client.captures.system import SystemSampler

__all__ = ["METADATA_CAPTURES", "ProcessFacts", "SystemSampler", "capture", "this_process"]

MAX_VALUE_LENGTH = 65_536
"""Characters of a metadata value that a server takes."""
_CUT = " … (cut)"

METADATA_CAPTURES: Mapping[str, Callable[[ProcessFacts], Mapping[str, str]]] = MappingProxyType(
    {
        "git": lambda facts: capture_git(facts.source_directories),
        "host": lambda _: capture_host(),
        "process": capture_process,
        "packages": lambda facts: capture_packages(facts.import_path),
    }
)
"""What can be captured, by the name that switches it on or off."""


def capture(names: Collection[str], process: ProcessFacts | None = None) -> dict[str, str]:
    """The captures of these names as metadata: keys such as `git.commit`, texts of at most 65,536 characters.

    process: that of the training, as `this_process()` said there; None: the calling process itself.
    What cannot be found out is left out. Takes some 20 ms, and at most half a second, where git is slow.

    Raises ValueError for a name that is not in METADATA_CAPTURES.
    """
    unknown = sorted(set(names) - set(METADATA_CAPTURES))
    if unknown:
        raise ValueError(f"there is no capture {unknown[0]!r}; there are {', '.join(METADATA_CAPTURES)}")
    facts = process or this_process()
    found: dict[str, str] = {}
    for name, function in METADATA_CAPTURES.items():
        if name in names:
            try:
                found |= function(facts)
            except Exception:  # noqa: BLE001, S112  # a training run must not end because the machine is odd
                continue
    return {_sendable(key)[:256]: _cut(_sendable(value)) for key, value in found.items()}


def _sendable(text: str) -> str:
    """Without what UTF-8 and the servers cannot hold: file names may have lone surrogates."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - len(_CUT)] + _CUT
