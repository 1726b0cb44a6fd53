"""What the server knows of earlier imports of a source, and what that means for this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tracker.v1.resources_pb2 import WriterState
from tracker.v1.tracker_service_pb2 import GetRunResponse
from tracker_client.importers.identity import writer_id

CONTENT_KEY = "import.content"
ATTEMPT_KEY = "import.attempt"
"""Metadata of an imported run: which content it shows, and as which attempt."""
_MAX_RANGES = 100
"""So many missing ranges a server lists. With as many, there may be more."""


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """As whom to send."""

    writer_id: str
    attempt: int
    arrived: WriterState | None = None
    """What the server has of this very import; None: nothing."""
    replaces: WriterState | None = None
    """The writer of the import that this one takes the place of, when that one never ended."""
    replaces_attempt: int = 0
    changed: bool = False
    """The run was imported before, with other content."""

    @property
    def done(self) -> bool:
        """Everything of it is there, or was refused for good."""
        return self.arrived is not None and self.arrived.closed and not self.arrived.missing

    def has(self, sequence: int) -> bool:
        """Whether a request has arrived."""
        state = self.arrived
        if state is None or sequence > state.last_sequence or len(state.missing) >= _MAX_RANGES:
            return False
        return not any(gap.first <= sequence <= gap.last for gap in state.missing)


def plan_import(key: str, content: str, changed_ms: int, run: GetRunResponse | None) -> ImportPlan:
    """The same content goes on as the attempt that it was begun as, which the run's metadata says. Other content is a
    newer attempt, so that it takes the place of the earlier one.

    changed_ms: when the source last changed. An attempt of a run that was resumed after that is newer.
    """
    metadata: Mapping[str, str] = {} if run is None else run.run.metadata
    earlier = _attempt(metadata.get(ATTEMPT_KEY, ""))
    if run is None or not earlier:
        attempt = max(1, changed_ms)
        return ImportPlan(writer_id(key, content, attempt), attempt)
    states = {state.writer_id: state for state in run.completeness.writers}
    earlier_content = metadata.get(CONTENT_KEY, "")
    earlier_writer = writer_id(key, earlier_content, earlier)
    known = states.get(earlier_writer)
    if earlier_content == content:
        return ImportPlan(earlier_writer, earlier, arrived=known)
    attempt = max(earlier + 1, changed_ms)
    unfinished = known if known is not None and (not known.closed or known.missing) else None
    return ImportPlan(
        writer_id(key, content, attempt), attempt, replaces=unfinished, replaces_attempt=earlier, changed=True
    )


def leftovers(run: GetRunResponse, counts: Mapping[str, int], attempt: int) -> list[tuple[str, int]]:
    """Metrics of which the run shows more points than the source holds, and how many more: points that the source lost
    since its last import, and that no point of it takes the place of. Empty when a newer attempt went on.
    """
    if run.run.attempt != attempt:
        return []
    return [(m.name, m.count - counts.get(m.name, 0)) for m in run.metrics if m.count > counts.get(m.name, 0)]


def _attempt(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else 0
