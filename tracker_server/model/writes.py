"""What a write asks for, once decoded: the consumer's own form, checked again, since queues hold what anybody put there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tracker_server.model.points import Block
from tracker_server.model.registers import Key
from tracker_server.model.typed_json import Json


@dataclass(frozen=True, slots=True)
class StartRun:
    """Starts a run or an attempt."""

    started_ms: int
    experiment_id: str
    name: str
    config: Mapping[str, Json]
    tags: tuple[str, ...]
    metadata: Mapping[str, str]
    parent_run_id: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class LogPoints:
    """Points in columns, or a void write."""

    blocks: tuple[Block, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class LogNext:
    """One point without a step: it gets the series' last step + 1."""

    name: str
    time_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class CloseWriter:
    """The writer's last sequence."""

    last_sequence: int


@dataclass(frozen=True, slots=True)
class CompleteRun:
    """Ends an attempt."""

    ended_ms: int
    experiment_id: str
    status: int
    final_metrics: Mapping[str, float]
    artifacts: Mapping[str, str]
    metadata: Mapping[str, str]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RewindRun:
    """Opens an attempt that supersedes older ones from a step on."""

    started_ms: int
    from_step: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life."""


@dataclass(frozen=True, slots=True)
class MapChange:
    """What happens to a map: cleared first if `replace`, then entries set and removed."""

    replace: bool = False
    set: Mapping[str, Json] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateRun:
    """Changes of a run. Only what is named changes."""

    changed_ms: int
    fields: Mapping[str, Json]
    maps: Mapping[str, MapChange]
    from_outside: bool = False
    """Not by the run itself: no sign of its life, and stronger than what any of its attempts says."""


@dataclass(frozen=True, slots=True)
class UpdateExperiment:
    """Changes of an experiment. Only what is named changes."""

    changed_ms: int
    fields: Mapping[str, Json]
    maps: Mapping[str, MapChange]


@dataclass(frozen=True, slots=True)
class LeaseMarker:
    """A server took writes: what it accepted before for this partition has been applied before."""

    server_id: str
    partition: int
    interrupted: bool = False
    """Not all that came since the marker before: some were turned away."""


Body: TypeAlias = (
    "StartRun | LogPoints | LogNext | CloseWriter | CompleteRun | Heartbeat | RewindRun | UpdateRun | UpdateExperiment"
    " | LeaseMarker"
)
FROM_OUTSIDE: Final = 2**63 - 1
"""The attempt in the keys of changes from outside: above every attempt of the run."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write: the unit of deduplication and of dead-lettering."""

    scope_id: str
    """The run; of UpdateExperiment, the experiment; of LeaseMarker, a name of its partition."""
    writer_id: str
    sequence: int
    """0: needs no deduplication (heartbeats, closes, markers)."""
    attempt: int
    accepted_ms: int
    replay: bool
    server_assigned: bool
    body: Body
    size: int = 0
    """Bytes of its payload."""

    @property
    def from_outside(self) -> bool:
        """Whether somebody else than the run says it."""
        return isinstance(self.body, UpdateRun) and self.body.from_outside

    @property
    def open_ended(self) -> bool:
        """Whether nobody says how much more there is to come of its writer: the server numbered it, or it came from outside,
        where a person or a service names a writer of its own and never closes it. Who waits for the run waits for neither.
        """
        return self.server_assigned or self.from_outside

    @property
    def points(self) -> int:
        """How many points it brings."""
        if isinstance(self.body, LogPoints):
            return sum(block.values.size for block in self.body.blocks)
        return int(isinstance(self.body, LogNext))

    @property
    def last_point_ms(self) -> int | None:
        """The latest time of its points; None where it brings none."""
        if isinstance(self.body, LogPoints):
            return max((int(block.times.max()) for block in self.body.blocks if block.times.size), default=None)
        return self.body.time_ms if isinstance(self.body, LogNext) else None

    def key(self, time_ms: int) -> Key:
        """Which of two values wins, for a write that states this time."""
        return Key(FROM_OUTSIDE if self.from_outside else self.attempt, time_ms, self.writer_id, self.sequence)
