"""Writes for tests of the store, short to write down."""

from collections.abc import Mapping, Sequence

import numpy as np

from tracker_server.model.points import Block
from tracker_server.model.typed_json import Json
from tracker_server.model.writes import (
    Body,
    CompleteRun,
    LogPoints,
    MapChange,
    StartRun,
    UpdateExperiment,
    UpdateRun,
    Write,
)

T = 1_700_000_000_000
"""Some moment, in milliseconds."""
DAY = 86_400_000
RUN, WRITER = "run", "writer-0123456789"
COMPLETED, FAILED = 2, 3


def write(
    sequence: int,
    body: Body,
    *,
    run: str = RUN,
    writer: str = WRITER,
    attempt: int = 0,
    accepted: int = T,
    replay: bool = False,
    server_assigned: bool = False,
) -> Write:
    """A write."""
    return Write(run, writer, sequence, attempt, accepted, replay, server_assigned, body)


def block(
    names: Sequence[str], steps: Sequence[int], rows: Sequence[Sequence[float]], times: Sequence[int] | None = None
) -> Block:
    """A block: a row of values for each name."""
    return Block(
        tuple(names),
        np.array(steps, np.int64),
        np.array([T] * len(steps) if times is None else times, np.int64),
        np.array(rows, np.float64).reshape(len(names), len(steps)),
    )


def points(
    steps: Sequence[int], values: Sequence[float], *, name: str = "m", times: Sequence[int] | None = None
) -> LogPoints:
    """Points of one metric."""
    return LogPoints((block([name], steps, [values], times),))


def start(
    experiment: str = "",
    *,
    at: int = T,
    name: str = "",
    config: Mapping[str, Json] | None = None,
    tags: tuple[str, ...] = (),
    metadata: Mapping[str, str] | None = None,
) -> StartRun:
    """A start."""
    return StartRun(at, experiment, name, config or {}, tags, metadata or {})


def complete(
    finals: Mapping[str, float] | None = None,
    *,
    at: int = T,
    experiment: str = "",
    status: int = COMPLETED,
    artifacts: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> CompleteRun:
    """An end."""
    return CompleteRun(at, experiment, status, finals or {}, artifacts or {}, metadata or {})


def update(at: int = T, fields: Mapping[str, Json] | None = None, **maps: MapChange) -> UpdateRun:
    """A change of a run."""
    return UpdateRun(at, fields or {}, maps)


def update_experiment(at: int = T, fields: Mapping[str, Json] | None = None, **maps: MapChange) -> UpdateExperiment:
    """A change of an experiment."""
    return UpdateExperiment(at, fields or {}, maps)
