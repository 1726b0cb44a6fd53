"""A run and its attempts, and how writes change them. Every change commutes with every other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tracker_server import limits
from tracker_server.model.cuts import Cuts, lowered
from tracker_server.model.leases import reason_of_loss
from tracker_server.model.registers import FieldRegister, Key, MapRegister
from tracker_server.model.status import DEFAULT_EXPERIMENT, Status
from tracker_server.model.typed_json import Json, encode_double
from tracker_server.model.writes import CompleteRun, MapChange, RewindRun, StartRun, UpdateRun, Write

RUN_FIELDS: Mapping[str, Json] = {
    "name": "",
    "notes": "",
    "stop_requested": False,
    "stop_reason": "",
    "parent_run_id": "",
    "run_group": "",
    "deleted_ms": None,
}
"""Single values of a run, and what they are at first."""
RUN_MAPS = ("config", "tags", "metadata", "artifacts")
"""Maps of a run; tags are a map of names to true."""


@dataclass(slots=True)
class AttemptState:
    """One attempt."""

    attempt: int
    first_accepted_ms: int
    last_seen_ms: int = limits.MIN_TIME_MS
    status: FieldRegister = field(default_factory=lambda: FieldRegister(int(Status.RUNNING)))
    """The key's time is when the attempt ended."""
    started_ms: int | None = None
    """As stated by the earliest StartRun."""
    final_metrics: MapRegister = field(default_factory=MapRegister)
    reason: FieldRegister = field(default_factory=lambda: FieldRegister(""))
    """Why it ended."""
    lost_ms: int | None = None
    """Since when it is lost: its lease was judged, and no sign of life came since."""
    replayed_ms: int | None = None
    """The latest time of the points that were replayed. Kept only until it is seen alive: nobody asks for it then."""
    implied: bool = False
    """Nothing of it was ever heard of: a change from outside came to a run that nobody had started."""
    is_new: bool = True
    changed: bool = True

    @property
    def began_ms(self) -> int:
        """When it started."""
        return self.first_accepted_ms if self.started_ms is None else self.started_ms

    @property
    def never_seen(self) -> bool:
        """Only replays have told of it."""
        return self.last_seen_ms == limits.MIN_TIME_MS

    @property
    def last_heard_ms(self) -> int:
        """Of one that was never seen alive, when it logged its last point, or else when it began."""
        return self.began_ms if self.replayed_ms is None else self.replayed_ms

    @property
    def stands(self) -> int:
        """Its status: how it ended, else LOST or RUNNING."""
        if self.status.key is None and self.lost_ms is not None:
            return Status.LOST
        return int(self.status.value)  # type: ignore[arg-type]  # only numbers are put there

    @property
    def ended_ms(self) -> int | None:
        """When it ended; None while it runs."""
        return None if self.status.key is None else self.status.key.time_ms

    @property
    def reason_now(self) -> str:
        """Why it ended, or is lost."""
        return reason_of_loss(self.last_seen_ms) if self.stands == Status.LOST else str(self.reason.value)

    def seen(self, write: Write, granularity_ms: int) -> None:
        """A sign of life, unless the write is a replay. Of one that was lost, a new one says that it lives."""
        if self.implied:
            # What was known of its beginning was only a change from outside.
            self.implied, self.changed = False, True
            self.first_accepted_ms = write.accepted_ms
        if write.accepted_ms < self.first_accepted_ms:
            self.first_accepted_ms, self.changed = write.accepted_ms, True
        moment = limits.MIN_TIME_MS if write.replay else write.accepted_ms // granularity_ms * granularity_ms
        if moment > self.last_seen_ms:
            self.last_seen_ms, self.changed = moment, True
            self.lost_ms = self.replayed_ms = None
        elif self.never_seen:
            self._replayed(write.last_point_ms)

    def start(self, started_ms: int) -> None:
        """The earliest start counts."""
        if self.started_ms is None or started_ms < self.started_ms:
            self.started_ms, self.changed = started_ms, True
            self._stay_lost()

    def _replayed(self, time_ms: int | None) -> None:
        if time_ms is not None and (self.replayed_ms is None or time_ms > self.replayed_ms):
            self.replayed_ms, self.changed = time_ms, True
        self._stay_lost()

    def _stay_lost(self) -> None:
        """More of a journal says better since when it is lost, whatever of it came before the lease was judged."""
        if self.lost_ms is not None and self.never_seen:
            self.lost_ms = self.last_heard_ms

    def complete(self, body: CompleteRun, key: Key) -> None:
        """The latest end counts."""
        self.status.set(int(body.status), key)
        self.reason.set(body.reason, key)
        for name, value in body.final_metrics.items():
            self.final_metrics.set(name, encode_double(value), key)
        self.changed = True


@dataclass(slots=True)
class RunState:
    """A run as a flush knows it: its counters always, its fields and maps only where a write changes them."""

    run_id: str
    experiment_id: str = DEFAULT_EXPERIMENT
    created_ms: int = limits.MAX_TIME_MS
    cuts: Cuts = ()
    series_count: int = 0
    writer_count: int = 0
    final_metrics: Mapping[str, Json] = field(default_factory=dict)
    """As stored so far for the newest attempt."""
    seen_granularity_ms: int = limits.SEEN_GRANULARITY_MS
    newest_stored: int = -1
    status_stored: int = 0
    times_stored: tuple[int, int, int | None] = (0, 0, None)
    """When it was created, and when its newest attempt began and was first heard of, as stored."""
    attempts: dict[int, AttemptState] = field(default_factory=dict)
    named: dict[str, Key] = field(default_factory=dict)
    """Experiments that writes named, each with its lowest key: the lowest of all wins."""
    fields: dict[str, FieldRegister] = field(
        default_factory=lambda: {name: FieldRegister(value) for name, value in RUN_FIELDS.items()}
    )
    maps: dict[str, MapRegister] = field(default_factory=lambda: {name: MapRegister() for name in RUN_MAPS})
    purged: bool = False
    """Nothing is left of it but its name, and nothing that comes for it is taken."""
    points_dropped: bool = False
    """Its points were dropped, so no totals can be made anew from them."""
    rewound_from: int | None = None
    """The lowest step of the cuts that this flush has made or moved: totals beyond it must be made anew."""
    is_new: bool = True
    counters_changed: bool = True
    details_changed: bool = False

    @property
    def newest(self) -> AttemptState:
        """The newest attempt that was heard of."""
        return self.attempts[max(self.attempts, key=lambda number: (not self.attempts[number].implied, number))]

    @property
    def conflicts(self) -> list[str]:
        """Experiments that lost."""
        return sorted(set(self.named) - {self.experiment_id})

    @property
    def last_seen_ms(self) -> int:
        """The last sign of life of any attempt."""
        return max(attempt.last_seen_ms for attempt in self.attempts.values())

    def touch(self, write: Write) -> AttemptState:
        """What every write does: makes the run and the attempt, and shows that they live."""
        attempt = self.attempts.get(write.attempt)
        if attempt is None:
            attempt = self.attempts[write.attempt] = AttemptState(write.attempt, write.accepted_ms)
        attempt.seen(write, self.seen_granularity_ms)
        if write.accepted_ms < self.created_ms:
            self.created_ms, self.counters_changed = write.accepted_ms, True
        self.counters_changed |= attempt.changed
        return attempt

    def change(self, write: Write) -> None:
        """What a change from outside does: makes the run where nobody has started it, and shows nothing of its life."""
        if write.attempt not in self.attempts:
            self.attempts[write.attempt] = AttemptState(write.attempt, write.accepted_ms, implied=True)
        attempt = self.attempts[write.attempt]
        if attempt.implied and write.accepted_ms < attempt.first_accepted_ms:
            attempt.first_accepted_ms, attempt.changed = write.accepted_ms, True
        if write.accepted_ms < self.created_ms:
            self.created_ms, self.counters_changed = write.accepted_ms, True

    def lose(self, attempt: AttemptState, since_ms: int) -> None:
        """An attempt has outlived its lease."""
        attempt.lost_ms, attempt.changed = since_ms, True
        self.counters_changed = True

    def rewind(self, write: Write, body: RewindRun) -> None:
        """Applies RewindRun."""
        self.touch(write).start(body.started_ms)
        cuts = lowered(self.cuts, write.attempt, body.from_step)
        if cuts != self.cuts:
            self.cuts = cuts
            self.rewound_from = min(body.from_step, body.from_step if self.rewound_from is None else self.rewound_from)
        self.counters_changed = True

    def start(self, write: Write, body: StartRun) -> None:
        """Applies StartRun."""
        key = write.key(body.started_ms)
        self.touch(write).start(body.started_ms)
        self._name_experiment(body.experiment_id, key)
        given = {"name": body.name, "parent_run_id": body.parent_run_id, "run_group": body.group}
        for name, value in given.items():
            if value:
                self.fields[name].set(value, key)
        self._merge("config", body.config, key)
        self._merge("tags", dict.fromkeys(body.tags, True), key)
        self._merge("metadata", body.metadata, key)
        self.counters_changed = self.details_changed = True

    def complete(self, write: Write, body: CompleteRun) -> None:
        """Applies RunCompleted."""
        key = write.key(body.ended_ms)
        self.touch(write).complete(body, key)
        self._name_experiment(body.experiment_id, key)
        self._merge("artifacts", body.artifacts, key)
        self._merge("metadata", body.metadata, key)
        self.counters_changed = self.details_changed = True

    def update(self, write: Write, body: UpdateRun) -> None:
        """Applies UpdateRun."""
        key = write.key(body.changed_ms)
        if body.from_outside:
            self.change(write)
        else:
            self.touch(write)
        apply_changes(self.fields, self.maps, body.fields, body.maps, key)
        self.counters_changed = self.details_changed = True

    def _name_experiment(self, experiment_id: str, key: Key) -> None:
        if not experiment_id:
            return
        # The attempt has no say in which was first.
        first = key._replace(attempt=0)
        if experiment_id not in self.named or first < self.named[experiment_id]:
            self.named[experiment_id] = first
        self.experiment_id = min(self.named, key=lambda name: self.named[name])

    def _merge(self, name: str, values: Mapping[str, Json] | Mapping[str, str], key: Key) -> None:
        for entry, value in values.items():
            self.maps[name].set(entry, value, key)


def apply_changes(
    fields: Mapping[str, FieldRegister],
    maps: Mapping[str, MapRegister],
    new_fields: Mapping[str, Json],
    new_maps: Mapping[str, MapChange],
    key: Key,
) -> None:
    """Applies an update to the registers of a run or an experiment."""
    for name, value in new_fields.items():
        fields[name].set(value, key)
    for name, change in new_maps.items():
        if change.replace:
            maps[name].clear(key)
        for entry, value in change.set.items():
            maps[name].set(entry, value, key)
        for entry in change.remove:
            maps[name].remove(entry, key)
