"""Read-your-writes: a read that carries write tokens waits until those writes are applied."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from tracker.internal.v1 import envelope_pb2 as internal
from tracker_server.errors import RunPurged, WriteDeadLettered, WriteNotVisible
from tracker_server.model.ranges import EMPTY, Ranges
from tracker_server.store.ledger import WriterSets
from tracker_server.tokens import read_write_token

Applied: TypeAlias = Callable[[Collection[tuple[str, str]], bool], Awaitable[Mapping[tuple[str, str], WriterSets]]]
"""Asks the store what was applied of (run or experiment, writer) pairs; True: of experiments."""
FIRST_WAIT_SECONDS = 0.005
LONGEST_WAIT_SECONDS = 0.1
DEFAULT_DEADLINE_SECONDS = 10.0
"""How long a read without a deadline waits."""


async def until_visible(tokens: Sequence[str], deadline: float | None, applied: Applied) -> None:
    """Returns once every write is applied.

    Raises WriteNotVisible, naming what is still missing, when `deadline` seconds do not suffice; at once WriteDeadLettered
    for a write that lies in the dead-letter queue, and RunPurged for one to a run that was purged.
    """
    missing = [read_write_token(token) for token in tokens]
    seconds = DEFAULT_DEADLINE_SECONDS if deadline is None else deadline
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    wait = FIRST_WAIT_SECONDS
    while missing := await _still_missing(missing, applied):
        left = end - loop.time()
        if left <= 0:
            named = ", ".join(_describe(token) for token in missing[:10])
            message = f"{len(missing)} of {len(tokens)} writes not applied within {seconds:.3g} s: {named}"
            raise WriteNotVisible(message, missing=str(len(missing)))
        await asyncio.sleep(min(wait, left))
        wait = min(wait * 1.5, LONGEST_WAIT_SECONDS)


async def _still_missing(tokens: Sequence[internal.WriteToken], applied: Applied) -> list[internal.WriteToken]:
    missing = []
    for experiments in (False, True):
        some = [token for token in tokens if token.experiment is experiments]
        if not some:
            continue
        sets = await applied({(token.scope_id, token.writer_id) for token in some}, experiments)
        for token in some:
            known = sets.get((token.scope_id, token.writer_id))
            if known is None or not _is_applied(token, known):
                missing.append(token)
    return missing


def _is_applied(token: internal.WriteToken, known: WriterSets) -> bool:
    if known.purged:
        message = f"run {token.scope_id!r} was deleted and is purged: what is written to it is not stored"
        raise RunPurged(message, run_id=token.scope_id)
    if token.closes and (known.final_sequence is None or known.final_sequence < token.sequence):
        return False
    missing = known.applied.missing(token.sequence) if token.closes else _alone(token.sequence, known.applied)
    if missing.overlaps(known.dead):
        message = f"{_describe(token)} could not be stored and lies in the dead-letter queue"
        raise WriteDeadLettered(
            message, scope_id=token.scope_id, writer_id=token.writer_id, sequence=str(token.sequence)
        )
    return not missing


def _alone(sequence: int, applied: Ranges) -> Ranges:
    """The sequence, unless it is applied."""
    return EMPTY if sequence in applied else EMPTY.add([sequence])


def _describe(token: internal.WriteToken) -> str:
    kind = "experiment" if token.experiment else "run"
    what = "close" if token.closes else f"sequence {token.sequence}"
    return f"{kind} {token.scope_id!r} writer {token.writer_id!r} {what}"
