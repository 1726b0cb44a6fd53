"""Sets of writes to a few runs and experiments, made to collide: the same steps, times, names, writers, attempts."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tests.contract.store_writes import T, block
from tracker_server.model.writes import (
    Body,
    CloseWriter,
    CompleteRun,
    Heartbeat,
    LogNext,
    LogPoints,
    MapChange,
    RewindRun,
    StartRun,
    UpdateExperiment,
    UpdateRun,
    Write,
)

RUNS = ("r0", "r1")
EXPERIMENTS = ("e0", "e1")
WRITERS = ("B-writer-000000000", "a-writer-000000000", "é-writer-000000000")
SERVERS_OWN = "a-server-000000000"
"""The writer of what comes without one."""
_attempts = st.sampled_from([0, 1, 1, 2, 2, 3])
_times = st.sampled_from([T, T, T + 1, T + 30_000, -62_135_596_800_000, 253_402_300_799_999])
_steps = st.one_of(
    st.integers(0, 3), st.integers(0, 3), st.integers(-1, 6), st.sampled_from([-(2**62), 2**62, -(2**63), 2**63 - 1])
)
_values = st.sampled_from([0.0, -0.0, 1.0, 0.1, -2.5, math.nan, math.inf, -math.inf, 1e308, 5e-324])
_names = st.sampled_from(["m", "m", "n", '"{,\\'])
_keys = st.sampled_from(["a", "b", "$c"])
_texts = st.sampled_from(["", "x", '"\\{},\n'])
_json: st.SearchStrategy[Any] = st.sampled_from([1, 1.5, "x", True, None, [], {"k": 2**53 + 1}, {"$double": "nan"}])
_experiments = st.sampled_from(["", *EXPERIMENTS])
_metadata = st.dictionaries(_keys, _texts, max_size=2)


@st.composite
def _blocks(draw: st.DrawFn) -> Any:
    names = draw(st.lists(_names, min_size=1, max_size=3, unique=True))
    steps = draw(st.lists(_steps, min_size=1, max_size=4))
    rows = [draw(st.lists(_values, min_size=len(steps), max_size=len(steps))) for _ in names]
    return block(names, steps, rows, [draw(_times) for _ in steps])


@st.composite
def _map_changes(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> MapChange:
    entries = draw(st.dictionaries(_keys, values, max_size=2))
    removed = [key for key in draw(st.lists(_keys, max_size=2, unique=True)) if key not in entries]
    return MapChange(draw(st.booleans()), entries, tuple(removed))


def _maps(*names: str) -> st.SearchStrategy[dict[str, MapChange]]:
    kinds = {"config": _json, "tags": st.just(True)}
    return st.fixed_dictionaries({}, optional={name: _map_changes(kinds.get(name, _texts)) for name in names})


_fields = {"name": _texts, "notes": _texts}
_parts_of_others = {"parent_run_id": st.sampled_from(["", "r1"]), "run_group": _texts}
_stops = {"stop_requested": st.booleans(), "stop_reason": _texts}
_deletions = {"deleted_ms": st.none() | st.just(T)}
_run_bodies: st.SearchStrategy[Body] = st.one_of(
    st.builds(LogPoints, st.lists(_blocks(), min_size=1, max_size=3).map(tuple)),
    st.builds(LogPoints, st.lists(_blocks(), min_size=1, max_size=3).map(tuple)),
    st.builds(LogPoints, st.just(()), st.integers(0, 9)),
    st.builds(LogNext, _names, _times, _values),
    st.builds(LogNext, _names, _times, _values),
    st.builds(RewindRun, _times, st.integers(-1, 4) | st.sampled_from([-(2**63) + 1, 2**63 - 1])),
    st.builds(
        StartRun,
        _times,
        _experiments,
        _texts,
        st.dictionaries(_keys, _json, max_size=2),
        st.lists(_keys, max_size=2).map(tuple),
        _metadata,
        _parts_of_others["parent_run_id"],
        _texts,
    ),
    st.builds(
        CompleteRun,
        _times,
        _experiments,
        st.integers(2, 5),
        st.dictionaries(_names | st.just("only final"), _values, max_size=2),
        _metadata,
        _metadata,
        _texts,
    ),
    st.builds(CloseWriter, st.integers(0, 5)),
    st.just(Heartbeat()),
    st.builds(
        UpdateRun,
        _times,
        st.fixed_dictionaries({}, optional={**_fields, **_parts_of_others, **_stops}),
        _maps("config", "tags", "metadata", "artifacts"),
    ),
    st.builds(
        UpdateRun,
        _times,
        st.fixed_dictionaries({}, optional={**_fields, **_parts_of_others, **_stops, **_deletions}),
        _maps("config", "tags", "metadata", "artifacts"),
        st.just(True),
    ),
)
_experiment_bodies: st.SearchStrategy[Body] = st.builds(
    UpdateExperiment, _times, st.fixed_dictionaries({}, optional=_fields | _deletions), _maps("tags", "metadata")
)


@st.composite
def histories(draw: st.DrawFn, most: int = 16) -> list[Write]:
    """Writes, each with an identity of its own, without holes unless something is lost on the way."""
    counters: Counter[tuple[str, str]] = Counter()
    made: list[Write] = []
    for _ in range(draw(st.integers(min(3, most), most))):
        of_experiment = draw(st.integers(0, 9)) == 9
        scope = draw(st.sampled_from(EXPERIMENTS if of_experiment else (*RUNS, RUNS[0], RUNS[0])))
        body = draw(_experiment_bodies if of_experiment else _run_bodies)
        writers = WRITERS if isinstance(body, CloseWriter) else (*WRITERS, SERVERS_OWN)
        writer = "" if isinstance(body, Heartbeat) else draw(st.sampled_from(writers))
        sequence = 0
        if not isinstance(body, Heartbeat | CloseWriter):
            counters[scope, writer] += 1
            sequence = counters[scope, writer]
        attempt = 0 if of_experiment or is_from_outside(body) else draw(_attempts)
        if isinstance(body, RewindRun):
            attempt = max(1, attempt)
        assigned = writer == SERVERS_OWN
        made.append(Write(scope, writer, sequence, attempt, draw(_times), draw(st.booleans()), assigned, body))
    return made


def is_from_outside(body: Body) -> bool:
    """Whether somebody else than the run says it: then no attempt is named."""
    return isinstance(body, UpdateRun) and body.from_outside


def renamed(write: Write, prefix: str) -> Write:
    """The same write to runs and experiments of another name."""
    body = write.body
    if isinstance(body, StartRun | CompleteRun) and body.experiment_id:
        body = replace(body, experiment_id=prefix + body.experiment_id)
    return replace(write, scope_id=prefix + write.scope_id, body=body)
