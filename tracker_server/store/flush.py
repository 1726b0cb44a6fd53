"""One flush: a batch of writes applied in one transaction, each exactly once, in an order that means nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from sqlalchemy import Connection, select

from tracker_server.model.points import PlacedBlock, build_frames
from tracker_server.model.writes import LeaseMarker, LogNext, LogPoints, Write
from tracker_server.store.bulk import Bulk
from tracker_server.store.lease_book import LeaseRules, judge
from tracker_server.store.ledger import Ledger
from tracker_server.store.next_steps import give_steps
from tracker_server.store.revision_book import changed_runs, revise
from tracker_server.store.run_book import RunBook
from tracker_server.store.series_book import SeriesBook
from tracker_server.store.series_cache import SeriesCache
from tracker_server.store.tables import series


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a flush did."""

    applied: int
    """Writes that were new."""
    duplicates: int
    """Writes that had been applied before."""
    points: int
    """Points stored."""
    scopes: frozenset[str]
    """What is cached and must be loaded anew; see scopes.py."""
    stale: frozenset[str]
    """Runs with series whose totals a cut has made stale."""
    revisions: Mapping[int, int]
    """Of the partitions in which runs changed; see revision_book.py."""
    dropped: int = 0
    """Writes to purged runs, which were left out."""


def flush(
    connection: Connection,
    bulk: Bulk,
    cache: SeriesCache,
    writes: Sequence[Write],
    leases: LeaseRules,
    partitions: int,
) -> Outcome:
    """Applies writes, then judges leases by the markers among them.

    The caller has begun the transaction and holds the partitions' locks, and commits.

    partitions: how many there are. Raises RowChanged when what was cached is not what the database has.
    """
    ledger, book, points = Ledger(bulk), RunBook(bulk, leases.lease), SeriesBook(bulk, cache)
    markers = [write for write in writes if isinstance(write.body, LeaseMarker)]
    writes = [write for write in writes if not isinstance(write.body, LeaseMarker)]
    book.load(connection, writes)
    asked, writes = len(writes), [write for write in writes if book.is_taken(write)]
    ledger.load(connection, writes)
    ordered = sorted(writes, key=attrgetter("scope_id", "writer_id", "sequence"))
    fresh = [write for write in ordered if ledger.admit(write)]
    for write in fresh:
        ledger.note(write)
        book.apply(write)
    rewound = book.rewound()
    for run in rewound:
        points.rewind(connection, run)
    _add_points(connection, ledger, book, points, fresh)
    for run in book.finals_changed():
        finals = select(series.c.name).where(series.c.run_id == run.run_id, series.c.final_kind.is_not(None))
        names = {*connection.execute(finals).scalars(), *run.newest.final_metrics.values}
        points.load_anew(connection, run, names)
        points.set_finals(run, sorted(names))
    judge(connection, bulk, book, markers, leases)
    scopes = book.scopes(writes)
    _number_writers(ledger, book)
    book.save(connection)
    points.save(connection)
    ledger.save(connection)
    revisions = revise(connection, bulk, partitions, changed_runs(book.runs, fresh), book.left())
    stored = sum(write.points for write in fresh)
    stale = points.stale() | {run.run_id for run in rewound}
    duplicates, dropped = len(writes) - len(fresh), asked - len(writes)
    return Outcome(len(fresh), duplicates, stored, frozenset(scopes), frozenset(stale), revisions, dropped)


def _add_points(
    connection: Connection, ledger: Ledger, book: RunBook, points: SeriesBook, fresh: Iterable[Write]
) -> None:
    blocks: defaultdict[tuple[str, int], list[PlacedBlock]] = defaultdict(list)
    names: defaultdict[str, set[str]] = defaultdict(set)
    stepless: list[tuple[Write, LogNext]] = []
    for write in fresh:
        if isinstance(write.body, LogPoints):
            for block in write.body.blocks:
                blocks[write.scope_id, write.attempt].append(PlacedBlock(write.writer_id, write.sequence, block))
                names[write.scope_id].update(block.names)
        elif isinstance(write.body, LogNext):
            stepless.append((write, write.body))
            names[write.scope_id].add(write.body.name)
    for run_id in sorted(names):
        points.load(connection, book.runs[run_id], names[run_id])
    for write, block in give_steps(connection, book.runs, points, blocks, stepless):
        blocks[write.scope_id, write.attempt].append(PlacedBlock(write.writer_id, write.sequence, block))
    _number_writers(ledger, book)
    for (run_id, attempt), placed in sorted(blocks.items(), key=lambda item: item[0]):
        run = book.runs[run_id]
        numbers = ledger.numbers(run_id)
        for frame in build_frames(placed):
            points.add(run, attempt, frame, numbers)


def _number_writers(ledger: Ledger, book: RunBook) -> None:
    for run_id in ledger.new_writer_runs():
        run = book.runs[run_id]
        run.writer_count = ledger.number(run_id, run.writer_count)
        run.counters_changed = True
