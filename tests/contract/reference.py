"""What a set of writes amounts to, told naively: every rule of the design in plain Python, nothing incremental.

Written from the design, not from the store. `expected_state` gives what `store_state.read_state` reads; `settled` gives
the steps of points that come without one, which depend on what was stored before.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from operator import itemgetter
from typing import Any

from tests.contract.store_state import Near
from tests.contract.store_writes import points as points_of_one
from tracker_server.model.ranges import EMPTY
from tracker_server.model.typed_json import encode_double
from tracker_server.model.writes import (
    CloseWriter,
    CompleteRun,
    LogNext,
    LogPoints,
    MapChange,
    RewindRun,
    StartRun,
    UpdateExperiment,
    UpdateRun,
    Write,
)
from tracker_server.store.ledger import DeadWrite

RUN_FIELDS: dict[str, Any] = {
    "name": "",
    "notes": "",
    "stop_requested": False,
    "stop_reason": "",
    "parent_run_id": "",
    "run_group": "",
    "deleted_ms": None,
}
YEAR_1 = -62_135_596_800_000
ABOVE_ALL_ATTEMPTS = 2**63 - 1
LAST_STEP = 2**63 - 1
LEASE_MS = 120_000
NEVER_SEEN = "never seen alive: it was sent afterwards, and no end with it"
NOT_LISTED = {"final_metrics", "accepted"}
"""What `attempt_state` tells and no list of attempts does."""
Key = tuple[int, int, str, int]
Points = list[dict[str, Any]]


def settled(before: list[Write], batch: Iterable[Write]) -> list[Write]:
    """All writes after a flush, those that it repeats left out, and with a step each: points without one get the step
    after the last live one of their series, in the order of the times that they state."""
    known = {identity(write): write for write in before}
    fresh = {identity(write): write for write in batch if identity(write) not in known}.values()
    after = [*before, *(write for write in fresh if not isinstance(write.body, LogNext))]
    stepless = [(write, write.body) for write in fresh if isinstance(write.body, LogNext)]
    for write, one in sorted(stepless, key=lambda item: (item[1].time_ms, item[0].writer_id, item[0].sequence)):
        own = [other for other in after if other.scope_id == write.scope_id]
        steps = [point["step"] for point in live(all_points(own).get(one.name, []), rewinds(own))]
        step = min(max(steps) + 1, LAST_STEP) if steps else 0
        after.append(replace(write, body=points_of_one([step], [one.value], name=one.name, times=[one.time_ms])))
    return after


def expected_state(
    writes: Iterable[Write],
    runs: Iterable[str],
    experiments: Iterable[str],
    dead: Iterable[DeadWrite] = (),
    expired_before: int | None = None,
) -> dict[str, Any]:
    """The state after these writes, in whatever order and however often they came.

    dead: those that were buried. expired_before: attempts without a sign of life since then have outlived their leases;
    None: nobody judges.
    """
    unique = {identity(write): write for write in writes}.values()
    of_runs: dict[str, list[Write]] = defaultdict(list)
    of_experiments: dict[str, list[Write]] = defaultdict(list)
    for write in unique:
        (of_experiments if isinstance(write.body, UpdateExperiment) else of_runs)[write.scope_id].append(write)
    buried: dict[str, list[DeadWrite]] = defaultdict(list)
    for one in dead:
        buried[one.scope_id].append(one)
    told = {run: run_state(of_runs[run], buried[run], expired_before) if of_runs[run] else None for run in sorted(runs)}
    named: dict[str, list[int]] = defaultdict(list)
    for write in unique:
        if isinstance(write.body, UpdateExperiment):
            named[write.scope_id].append(write.accepted_ms)
        elif isinstance(write.body, StartRun | CompleteRun) and write.body.experiment_id:
            named[write.body.experiment_id].append(write.accepted_ms)
    existing = {name: state for name, state in told.items() if state}
    return {
        "runs": told,
        "experiments": {
            name: summary(name, named[name], of_experiments[name], existing) for name in sorted(experiments)
        },
    }


def identity(write: Write) -> object:
    """Two deliveries of one write have the same."""
    if write.sequence:
        return (isinstance(write.body, UpdateExperiment), write.scope_id, write.writer_id, write.sequence)
    return (write.scope_id, write.writer_id, write.attempt, write.accepted_ms, write.replay, repr(write.body))


def run_state(writes: list[Write], buried: list[DeadWrite], expired_before: int | None) -> dict[str, Any]:
    """A run from all that was written to it."""
    # Changes from outside show nothing of a run's life; a run of which nothing else is known has attempt 0.
    own = [write for write in writes if not from_outside(write)] or writes
    attempts = {number: attempt_state([w for w in own if w.attempt == number]) for number in numbers(own)}
    logged, cuts = all_points(writes), rewinds(writes)
    if expired_before is not None and not from_outside(own[0]):
        for number, attempt in attempts.items():
            times = [one["time"] for points in logged.values() for one in points if one["attempt"] == number]
            lose(attempt, expired_before, times)
    newest = attempts[max(attempts)]
    first: dict[str, tuple[int, str, int]] = {}
    for write in writes:
        if isinstance(write.body, StartRun | CompleteRun) and write.body.experiment_id:
            key = (stated(write), write.writer_id, write.sequence)
            first[write.body.experiment_id] = min(key, first.get(write.body.experiment_id, key))
    experiment = min(first, key=lambda name: first[name], default="default")
    fields, maps = changes(writes, dict(RUN_FIELDS))
    stops = [w for w in writes if isinstance(w.body, UpdateRun) and "stop_requested" in w.body.fields]
    asked = max(stops, key=order, default=None)
    # A metric without live points is not listed.
    series = {name: found for name, points in logged.items() if (found := live(points, cuts))}
    finals = newest["final_metrics"]
    names = sorted(series.keys() | finals.keys())
    return {
        "run": {
            "run_id": writes[0].scope_id,
            "experiment_id": experiment,
            "experiment_conflicts": sorted(first.keys() - {experiment}),
            **fields,
            **{name: maps[name] for name in ("config", "metadata", "artifacts")},
            "tags": sorted(maps["tags"]),
            "attempt": max(attempts),
            "status": newest["status"],
            "started_ms": newest["started_ms"],
            "ended_ms": newest["ended_ms"],
            "final_metrics": {name: encode_double(value) for name, value in finals.items()},
            "created_ms": min(write.accepted_ms for write in writes),
            "last_seen_ms": max(attempt["last_seen_ms"] for attempt in attempts.values()),
            "stop_ms": stated(asked) if asked is not None and fields["stop_requested"] else None,
            "heard_ms": min(write.accepted_ms for write in own if write.attempt == max(attempts)),
            "reason": newest["reason"],
            "lost_ms": newest["lost_ms"],
            "points_dropped_ms": None,
        },
        "attempts": [
            {"attempt": number, **{name: value for name, value in attempts[number].items() if name not in NOT_LISTED}}
            for number in sorted(attempts)
        ],
        "metrics": {name: totals(series.get(name, [])) | {"final": repr(finals.get(name))} for name in names},
        "history": {
            name: [(point["step"], point["time"], repr(point["value"])) for point in series.get(name, [])]
            for name in names
        },
        "by_attempt": {
            number: {name: own_points for name, points in logged.items() if (own_points := of_attempt(points, number))}
            for number in sorted(attempts)
        },
        **writer_states(writes, buried, ended=newest["ended_ms"] is not None),
    }


def from_outside(write: Write) -> bool:
    """Whether a person changed the run."""
    return isinstance(write.body, UpdateRun) and write.body.from_outside


def numbers(writes: list[Write]) -> set[int]:
    """The attempts that writes belong to."""
    return {write.attempt for write in writes}


def attempt_state(writes: list[Write]) -> dict[str, Any]:
    """One attempt: the earliest start, the latest end."""
    starts = [write.body.started_ms for write in writes if isinstance(write.body, StartRun | RewindRun)]
    rewound = [write.body.from_step for write in writes if isinstance(write.body, RewindRun)]
    ends = sorted((write for write in writes if isinstance(write.body, CompleteRun)), key=order)
    finals: dict[str, float] = {}
    for end in ends:
        assert isinstance(end.body, CompleteRun)
        finals |= end.body.final_metrics
    seen = [write.accepted_ms // 10_000 * 10_000 for write in writes if not write.replay and not from_outside(write)]
    last = ends[-1].body if ends else None
    assert last is None or isinstance(last, CompleteRun)
    return {
        "status": 1 if last is None else last.status,
        "started_ms": min(starts) if starts else min(write.accepted_ms for write in writes),
        "ended_ms": None if last is None else last.ended_ms,
        "reason": "" if last is None else last.reason,
        "lost_ms": None,
        "rewound_from_step": min(rewound, default=None),
        "last_seen_ms": max(seen, default=YEAR_1),
        "final_metrics": finals,
        "accepted": [write.accepted_ms for write in writes],
    }


def lose(attempt: dict[str, Any], expired_before: int, times: list[int]) -> None:
    """Changes what is told of an attempt that has outlived its lease; times: those of its points."""
    seen, accepted = attempt["last_seen_ms"], attempt["accepted"]
    if attempt["ended_ms"] is not None or (min(accepted) if seen == YEAR_1 else seen) >= expired_before:
        return
    attempt["status"] = 6
    if seen == YEAR_1:
        attempt["reason"], attempt["lost_ms"] = NEVER_SEEN, max(times, default=attempt["started_ms"])
    else:
        moment = datetime.fromtimestamp(seen / 1000, UTC)
        attempt["reason"] = f"no sign of life since {moment:%Y-%m-%dT%H:%M:%SZ}"
        attempt["lost_ms"] = seen + LEASE_MS


def stated(write: Write) -> int:
    """The time that a write states."""
    body = write.body
    if isinstance(body, StartRun):
        return body.started_ms
    if isinstance(body, CompleteRun):
        return body.ended_ms
    assert isinstance(body, UpdateRun | UpdateExperiment)
    return body.changed_ms


def order(write: Write) -> Key:
    """The highest wins."""
    attempt = ABOVE_ALL_ATTEMPTS if from_outside(write) else write.attempt
    return (attempt, stated(write), write.writer_id, write.sequence)


def changes(writes: list[Write], fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Fields and maps after all changes, made one after the other in the order of their keys."""
    maps: dict[str, dict[str, Any]] = {
        name: {} for name in ("config", "tags", "metadata", "artifacts", "metric_definitions")
    }
    changing = [w for w in writes if isinstance(w.body, StartRun | CompleteRun | UpdateRun | UpdateExperiment)]
    for write in sorted(changing, key=order):
        body = write.body
        if isinstance(body, StartRun):
            given = {"name": body.name, "parent_run_id": body.parent_run_id, "run_group": body.group}
            fields = fields | {name: value for name, value in given.items() if value}
            told = {"config": MapChange(set=body.config), "tags": MapChange(set=dict.fromkeys(body.tags, True))}
            told["metadata"] = MapChange(set=dict(body.metadata))
        elif isinstance(body, CompleteRun):
            told = {"artifacts": MapChange(set=dict(body.artifacts)), "metadata": MapChange(set=dict(body.metadata))}
        else:
            assert isinstance(body, UpdateRun | UpdateExperiment)
            fields, told = fields | dict(body.fields), dict(body.maps)
        for name, change in told.items():
            entries = {} if change.replace else dict(maps[name])
            entries |= change.set
            maps[name] = {key: value for key, value in entries.items() if key not in change.remove}
    return fields, maps


def all_points(writes: list[Write]) -> dict[str, Points]:
    """Every point of every metric, with all that decides its place."""
    points: dict[str, Points] = defaultdict(list)
    for write in writes:
        if isinstance(write.body, LogPoints):
            for number, block in enumerate(write.body.blocks):
                for name, row in zip(block.names, block.values.tolist(), strict=True):
                    for index, value in enumerate(row):
                        step, time = int(block.steps[index]), int(block.times[index])
                        place = (step, time, write.writer_id, write.sequence, number, index)
                        one = {"attempt": write.attempt, "step": step, "time": time, "value": value, "place": place}
                        points[name].append(one)
    return points


def rewinds(writes: list[Write]) -> dict[int, int]:
    """Of each attempt that rewound the run, the first step that it supersedes."""
    cuts: dict[int, int] = {}
    for write in writes:
        if isinstance(write.body, RewindRun):
            cuts[write.attempt] = min(write.body.from_step, cuts.get(write.attempt, LAST_STEP))
    return cuts


def live(points: Points, cuts: dict[int, int]) -> Points:
    """Those below the smallest step of every newer attempt, attempt 0 neither superseding nor being superseded; and below
    the step of every newer attempt that rewound the run, attempt 0 included."""
    firsts: dict[int, int] = {}
    for point in points:
        if point["attempt"]:
            firsts[point["attempt"]] = min(point["step"], firsts.get(point["attempt"], point["step"]))
    alive = [point for point in points if (not point["attempt"] or below(point, firsts)) and below(point, cuts)]
    return sorted(alive, key=itemgetter("place"))


def below(point: dict[str, Any], cuts: dict[int, int]) -> bool:
    """Whether a point is below the cuts of all newer attempts."""
    return all(point["step"] < step for attempt, step in cuts.items() if attempt > point["attempt"])


def of_attempt(points: Points, number: int) -> list[tuple[int, int, str]]:
    """All points of an attempt."""
    own = sorted((point for point in points if point["attempt"] == number), key=itemgetter("place"))
    return [(point["step"], point["time"], repr(point["value"])) for point in own]


def totals(points: Points) -> dict[str, Any]:
    """Totals of live points in order."""
    finite = [point for point in points if math.isfinite(point["value"])]
    low = min(finite, key=lambda p: (p["value"], math.copysign(1, p["value"]), p["step"]), default=None)
    high = min(finite, key=lambda p: (-p["value"], -math.copysign(1, p["value"]), p["step"]), default=None)
    small = [Fraction(p["value"]) for p in finite if abs(p["value"]) <= 1e290]
    huge = [Fraction(p["value"]) * Fraction(2) ** -128 for p in finite if abs(p["value"]) > 1e290]
    last = points[-1] if points else None
    return {
        "count": len(points),
        "finite": len(finite),
        "last": repr(last and (*last["place"][:4], last["value"])),
        "min": repr(low and (low["value"], low["step"])),
        "max": repr(high and (high["value"], high["step"])),
        "sum": Near(float(sum(small)), float(sum(map(abs, small)))),
        "huge_sum": Near(float(sum(huge)), float(sum(map(abs, huge)))),
    }


def writer_states(writes: list[Write], buried: list[DeadWrite], *, ended: bool) -> dict[str, Any]:
    """What became of each writer's writes, and whether all is there."""
    writers: dict[str, dict[str, Any]] = {}
    complete, nobody_says = True, True
    everything: list[Write | DeadWrite] = [*writes, *buried]
    with_an_end = {one.writer_id for one in everything if not _open_ended(one)}
    for name in sorted({one.writer_id for one in everything if one.writer_id}):
        own = [write for write in writes if write.writer_id == name]
        sequences = {write.sequence for write in own if write.sequence}
        refused = {one.sequence for one in buried if one.writer_id == name} - sequences
        closes = [write.body.last_sequence for write in own if isinstance(write.body, CloseWriter)]
        final = max(closes, default=None)
        if name not in with_an_end:
            complete &= not refused
            if not refused:
                continue
        else:
            nobody_says = False
            # Closed, nothing beyond, and everything up to there applied.
            complete &= final is not None and sequences | refused == set(range(1, final + 1)) and not refused
        dropped = sum(write.body.dropped for write in own if isinstance(write.body, LogPoints))
        writers[name] = {
            "applied": str(EMPTY.add(sequences)),
            "dead": str(EMPTY.add(refused)),
            "final": final,
            "dropped": dropped,
        }
    return {"writers": writers, "complete": complete and (ended or not nobody_says)}


def _open_ended(one: Write | DeadWrite) -> bool:
    """Whether nobody waits for more of its writer: a server's own, or that of a change from outside."""
    if isinstance(one, DeadWrite):
        return one.open_ended
    return one.server_assigned or from_outside(one)


def summary(name: str, accepted: list[int], updates: list[Write], runs: dict[str, Any]) -> dict[str, Any] | None:
    """An experiment at a glance."""
    if not accepted:
        return None
    fields, maps = changes(updates, {"name": "", "notes": "", "retention": None, "deleted_ms": None})
    own = {run: state for run, state in runs.items() if state["run"]["experiment_id"] == name}
    counts: dict[int, int] = defaultdict(int)
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for run, state in own.items():
        counts[state["run"]["status"]] += 1
        for metric, told in state["metrics"].items():
            history = state["history"][metric]
            values[metric][run] = float(history[-1][2] if told["final"] == "None" else told["final"])
    newest = sorted(own, key=lambda run: (own[run]["run"]["created_ms"], run), reverse=True)
    return {
        "experiment": {
            "experiment_id": name,
            **fields,
            "tags": sorted(maps["tags"]),
            "metadata": maps["metadata"],
            "metric_definitions": maps["metric_definitions"],
            "created_ms": min(accepted),
            "run_count": len(own),
        },
        "counts": dict(counts),
        "metrics": {metric: across(of_runs) for metric, of_runs in values.items()},
        "newest": newest[:10],
    }


def across(of_runs: dict[str, float]) -> dict[str, Any]:
    """One metric over the runs."""
    finite = {run: value for run, value in of_runs.items() if math.isfinite(value)}
    magnitude = float(max(map(abs, finite.values()), default=0.0))
    exact = sum(map(Fraction, finite.values())) / len(finite) if finite else None
    return {
        "runs": len(of_runs),
        "non_finite": len(of_runs) - len(finite),
        "min": min(((value, run) for run, value in finite.items()), default=None),
        "max": min(((value, run) for run, value in finite.items()), key=lambda pair: (-pair[0], pair[1]), default=None),
        "mean": None if exact is None else Near(float(exact), magnitude),
    }
