"""Writes delivered as a broker, consumers and their misfortunes may deliver them: in any order, any number of times, in
any batches; some are buried and replayed later, or never; flushes fail in the middle and come again; and between the
flushes happens what consumers do beside them."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from tests.contract.reference import settled
from tests.contract.store_leases import END, LEASE, marker
from tests.contract.store_writes import DAY, T
from tracker_server.model.writes import UpdateExperiment, Write
from tracker_server.partitions import partition_of
from tracker_server.store.ledger import DeadWrite
from tracker_server.store.store import Store

JUDGED_MS: Final = T + DAY
"""When the server sent its last marker behind which leases are judged."""
EXPIRED_BEFORE: Final = JUDGED_MS - END
"""Attempts without a sign of life since then are lost once they are judged."""
Beside: TypeAlias = Callable[[Store, Sequence[str], random.Random], object]
"""What may happen between two flushes, given the runs."""


@dataclass
class Delivered:
    """What became of the writes."""

    applied: list[Write] = field(default_factory=list)
    """Each once, and with the step that it got."""
    dead: list[DeadWrite] = field(default_factory=list)


class Killed(Exception):
    """The process that flushed is gone."""


def refresh(store: Store, runs: Sequence[str], source: random.Random) -> None:
    """Makes some stale totals anew."""
    for run in store.stale_runs(1000):
        if run in runs and source.random() < 0.7:
            store.refresh_totals(run)


def compact(store: Store, runs: Sequence[str], source: random.Random) -> None:
    """Merges some chunks."""
    store.compact(source.choice(runs), finish=source.random() < 0.3, many=source.choice([2, 3, 5]))


def judge(store: Store, runs: Sequence[str], source: random.Random) -> None:
    """Judges the leases of some of the runs, a day after all that the tests' writes say but for the end of all time."""
    judge_all(store, source.sample(runs, source.randint(1, len(runs))))


BESIDE: Final[Sequence[tuple[Beside, float]]] = ((refresh, 0.2), (compact, 0.2), (judge, 0.1))
"""What consumers do beside the flushes, and how often."""


def judge_all(store: Store, runs: Sequence[str]) -> None:
    """Judges the leases of these runs, and of whatever shares their partitions."""
    of_each = {partition_of(run, store.partitions): run for run in runs}
    moments = [*range(JUDGED_MS - END - 1, JUDGED_MS, LEASE.gap_ms), JUDGED_MS]
    store.flush([marker(store, at, run=run) for run in of_each.values() for at in moments])


def refresh_all(store: Store, runs: Sequence[str]) -> bool:
    """Makes all stale totals of these runs anew; whether there were any."""
    stale = [run for run in store.stale_runs(1000) if run in runs]
    for run in stale:
        while store.refresh_totals(run):
            pass
    return bool(stale)


def deliver(
    store: Store,
    writes: Sequence[Write],
    runs: Sequence[str],
    source: random.Random,
    *,
    shuffled: bool = True,
    beside: Sequence[tuple[Beside, float]] = BESIDE,
    sizes: Sequence[int] = (1, 1, 2, 3, 5, 20),
) -> Delivered:
    """Delivers every write at least once; only what was buried and never replayed is missing afterwards.

    In the end all leases are judged: without that, who is lost would depend on what was judged when.
    """
    delivered = Delivered()
    order = [*writes, *(write for write in writes if source.random() < 0.3)]
    if shuffled:
        source.shuffle(order)
    for_good = bury(store, writes, source, delivered) if source.random() < 0.3 else set()
    order = [write for write in order if identity_of(write) not in for_good]
    while order:
        size = source.choice(sizes)
        batch, order = order[:size], order[size:]
        if source.random() < 0.1:
            # The consumer dies in the middle. Who takes over gets the same messages, in other batches.
            with failing(store, source.randint(1, 6)) as died:
                store.flush(batch)
            if died:
                order = batch + order
                continue
        else:
            outcome = store.flush(batch)
            assert outcome.applied + outcome.duplicates == len(batch)
        delivered.applied = settled(delivered.applied, batch)
        if source.random() < 0.2:
            # It dies before it acknowledges.
            order += batch[: source.randint(0, 1)]
        for happens, how_often in beside:
            if source.random() < how_often:
                happens(store, runs, source)
    judge_all(store, runs)
    return delivered


def bury(store: Store, writes: Sequence[Write], source: random.Random, delivered: Delivered) -> set[object]:
    """Puts some writes into the dead-letter queue; returns the identities of those that are never replayed."""
    numbered = [write for write in writes if write.sequence]
    buried = [write for write in numbered if source.random() < 0.2]
    delivered.dead = [dead_write(write) for write in buried]
    store.mark_dead(delivered.dead)
    return {identity_of(write) for write in buried if source.random() < 0.5}


def dead_write(write: Write) -> DeadWrite:
    """What is noted of a write that is buried."""
    of_experiment = isinstance(write.body, UpdateExperiment)
    return DeadWrite(write.scope_id, of_experiment, write.writer_id, write.sequence, write.open_ended)


def identity_of(write: Write) -> object:
    """What is buried under the same number is the same."""
    return dead_write(write) if write.sequence else write


@contextmanager
def failing(store: Store, after: int) -> Iterator[list[Killed]]:
    """Kills the flush within at its n-th statement of those that write; what is given has an element if that came."""
    bulk, died = store._bulk, list[Killed]()
    store._bulk = _Failing(bulk, after)
    try:
        yield died
    except Killed as death:
        died.append(death)
    finally:
        store._bulk = bulk


class _Failing:
    """A Bulk that dies after some of its writing statements."""

    def __init__(self, bulk: Any, after: int) -> None:
        self._bulk = bulk
        self._left = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._bulk, name)
        if name not in {"insert_missing", "upsert", "update", "insert_chunks"}:
            return method

        def dying(*arguments: Any) -> Any:
            result = method(*arguments)
            self._left -= 1
            if not self._left:
                raise Killed
            return result

        return dying
