"""Steps for points that came without: each gets the one after the last live point of its series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sqlalchemy import Connection

from tracker_server import limits
from tracker_server.model.cuts import live_until
from tracker_server.model.points import Block, Ints, PlacedBlock
from tracker_server.model.run import RunState
from tracker_server.model.writes import LogNext, Write
from tracker_server.store.point_reader import SeriesReader
from tracker_server.store.series_book import SeriesBook, SeriesState

Blocks = Mapping[tuple[str, int], Sequence[PlacedBlock]]
"""What a flush brings, by run and attempt."""


def give_steps(
    connection: Connection,
    runs: Mapping[str, RunState],
    book: SeriesBook,
    blocks: Blocks,
    stepless: Sequence[tuple[Write, LogNext]],
) -> list[tuple[Write, Block]]:
    """Points that came without a step, with one: after the last one of their series that is live, among those stored and
    those that the same flush brings. Of several points the stated time decides, then writer and sequence.

    The series must have been loaded.
    """
    if not stepless:
        return []
    wanted = {(write.scope_id, body.name) for write, body in stepless}
    logged = [
        (runs[run_id], attempt, name, placed.block.steps)
        for (run_id, attempt), some in blocks.items()
        for placed in some
        for name in placed.block.names
        if (run_id, name) in wanted
    ]
    # First all cuts: they say which points count.
    for run, attempt, name, steps in logged:
        book.cut(run, attempt, name, int(steps.min()))
    last = {
        (run_id, name): _last_stored(connection, runs[run_id], book.get(run_id, name))
        for run_id, name in sorted(wanted)
    }
    for run, attempt, name, steps in logged:
        live = _live(run, book.cut(run, attempt, name, int(steps.min())), attempt, steps)
        if live.size:
            last[run.run_id, name] = max(int(live.max()), _or_lowest(last[run.run_id, name]))
    given = []
    for write, body in sorted(stepless, key=lambda item: (item[1].time_ms, item[0].writer_id, item[0].sequence)):
        run, before = runs[write.scope_id], last[write.scope_id, body.name]
        step = 0 if before is None else min(before + 1, limits.MAX_STEP)
        steps = np.array([step], np.int64)
        state = book.cut(run, write.attempt, body.name, step)
        if _live(run, state, write.attempt, steps).size:
            last[write.scope_id, body.name] = step
        values = np.array([[body.value]], np.float64)
        given.append((write, Block((body.name,), steps, np.array([body.time_ms], np.int64), values)))
    return given


def _last_stored(connection: Connection, run: RunState, state: SeriesState | None) -> int | None:
    if state is None or state.totals.last is None:
        return None
    if not state.stale:
        return state.totals.last.step
    # Its totals count superseded points too.
    return SeriesReader(connection, state, run.cuts).last_step()


def _live(run: RunState, state: SeriesState, attempt: int, steps: Ints) -> Ints:
    bound = live_until(attempt, state.cuts, run.cuts)
    return steps if bound is None else steps[steps < bound]


def _or_lowest(step: int | None) -> int:
    return limits.MIN_STEP if step is None else step
