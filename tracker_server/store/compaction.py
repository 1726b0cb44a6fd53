"""Compaction: small chunks of a series merged into large ones. Nothing that is read changes by it.

A flush only ever adds chunks, and a compaction only takes away chunks that it has read under the run's lock, so the two
need not wait for each other. A merged chunk bears the number of one of its parts, which nobody else can give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

from sqlalchemy import Connection, and_, delete, func, or_, select

from tracker_server import limits
from tracker_server.model.chunks import ChunkGroup
from tracker_server.model.merging import cut_merged, merge_parts
from tracker_server.model.status import Status
from tracker_server.store.bulk import Bulk, NumberedChunks
from tracker_server.store.chunk_reader import ChunkHead, StoredChunk, read_chunks, tail_heads
from tracker_server.store.point_reader import writer_ids
from tracker_server.store.series_book import LARGE_CHUNK_POINTS
from tracker_server.store.tables import chunk_tail, chunks, runs

CROWD = 128
"""So many small chunks of a series are merged while more are expected."""
SEVERAL = 2
"""The least that can be merged."""
_WORTHWHILE_POINTS = 256
"""A crowd of chunks larger than this on average costs little more than large ones: it waits for the end of the run."""
_MOST_CHUNKS = 1_024
"""Chunks read in one transaction."""
_MOST_POINTS = 8 * limits.MAX_CHUNK_POINTS
"""Points read in one transaction, or two chunks: about 1 MiB as arrays."""
_MOST_CROWDS = 4_096
"""Series and attempts looked up at a time."""


Crowds: TypeAlias = tuple[tuple[tuple[int, int], int], ...]
"""Series and attempts with small chunks to be merged, and how many each has."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What one transaction did."""

    parts: int = 0
    """Small chunks taken away."""
    chunks: int = 0
    """Chunks put in their place."""
    points: int = 0
    """Points in them."""
    pending: Crowds = ()
    """What was found and is still to be merged, for the next transaction: finding it is most of the work of a short one."""

    def plus(self, other: Compacted) -> Compacted:
        """Both together, nothing pending."""
        return Compacted(self.parts + other.parts, self.chunks + other.chunks, self.points + other.points)


NOTHING_COMPACTED = Compacted()
"""There was nothing to merge, or somebody else is at it."""


def runs_with_tails(connection: Connection, after: str, limit: int) -> list[tuple[str, bool]]:
    """Runs with an id beyond `after` that have small chunks, by id, and whether each has ended."""
    some = select(chunk_tail.c.run_id).where(chunk_tail.c.run_id > after).group_by(chunk_tail.c.run_id)
    some_ids = list(connection.execute(some.order_by(chunk_tail.c.run_id).limit(limit)).scalars())
    found = connection.execute(select(runs.c.run_id, runs.c.status).where(runs.c.run_id.in_(some_ids)))
    status = {row.run_id: row.status for row in found}
    return [(run_id, status[run_id] != Status.RUNNING) for run_id in some_ids]


def compact(connection: Connection, bulk: Bulk, run_id: str, pending: Crowds, *, finish: bool, many: int) -> Compacted:
    """Merges small chunks of a run, as many as one short transaction may. The caller holds the run's lock, and commits."""
    crowds = dict(pending or _crowded(connection, run_id, finish=finish, many=many))
    work = _Work(run_id)
    heads = list(_taken(tail_heads(connection, run_id, _first_of(crowds), _MOST_CHUNKS))) if crowds else []
    glued = _glued(connection, run_id, heads)
    for crowd, group in groupby(heads, key=lambda item: (item[0], item[1].attempt)):
        own = [head for _, head in group]
        left = crowds[crowd] - len(own)
        if len(own) == 1 and left > 0:
            continue
        parts = _read(connection, run_id, crowd[0], own)
        stretches = list(_stretches(connection, run_id, crowd[0], parts))
        small = 0
        for number, stretch in enumerate(stretches, 1):
            work.move(crowd[0], [part for part in stretch if (crowd[0], part.chunk_no) in glued])
            rest = [part for part in stretch if (crowd[0], part.chunk_no) not in glued]
            # Behind the last large chunk more is to come.
            more = number == len(stretches) and not (finish and left <= 0)
            if len(rest) > 1 or (rest and not more):
                small += work.merge(connection, crowd[0], rest, more=more)
            else:
                small += len(rest)
        crowds[crowd] = left + small if left > 0 else 0
    return work.save(connection, bulk, tuple((crowd, count) for crowd, count in crowds.items() if count))


@dataclass(slots=True)
class _Work:
    """What is to be taken away, and what is to be put in its place."""

    run_id: str
    _gone: dict[int, list[int]] = field(default_factory=dict)
    """Chunk numbers by series."""
    _large: list[NumberedChunks] = field(default_factory=list)
    _small: list[NumberedChunks] = field(default_factory=list)

    def move(self, series_no: int, parts: Sequence[StoredChunk]) -> None:
        """Chunks that go among the large ones as they are."""
        for part in parts:
            merged = merge_parts([part], dict)
            self._take(series_no, [part.chunk_no])
            self._put(
                series_no,
                part.chunk_no,
                merged.chunk(self.run_id, part.attempt, 0, len(part.steps)),
                large=True,
            )

    def merge(self, connection: Connection, series_no: int, parts: Sequence[StoredChunk], *, more: bool) -> int:
        """Chunks of one attempt that become few. If `more` is to come, what does not fill a chunk stays small.

        Returns how many stay small.
        """
        merged = merge_parts(parts, lambda: writer_ids(connection, self.run_id))
        numbers = sorted(part.chunk_no for part in parts)
        cuts, apart = cut_merged(merged, limits.MAX_CHUNK_POINTS, len(parts))
        self._take(series_no, numbers)
        small = len(self._small)
        for (start, stop), number in zip(cuts, numbers[: len(cuts)], strict=True):
            stays = stop == len(merged.steps) and apart and more and stop - start < limits.MAX_CHUNK_POINTS
            chunk = merged.chunk(self.run_id, parts[0].attempt, start, stop)
            self._put(series_no, number, chunk, large=not stays)
        return len(self._small) - small

    def save(self, connection: Connection, bulk: Bulk, pending: Crowds) -> Compacted:
        """Writes it down."""
        for series_no, numbers in self._gone.items():
            found = connection.execute(
                delete(chunk_tail).where(
                    chunk_tail.c.run_id == self.run_id,
                    chunk_tail.c.series_no == series_no,
                    chunk_tail.c.chunk_no.in_(numbers),
                )
            )
            if found.rowcount != len(numbers):
                message = f"chunks of run {self.run_id!r} went away while they were merged"
                raise RuntimeError(message)
        for table, some in ((chunks, self._large), (chunk_tail, self._small)):
            if some:
                bulk.insert_chunks(connection, table, some)
        made = self._large + self._small
        points = sum(len(numbered.group.steps) for numbered in made)
        return Compacted(sum(map(len, self._gone.values())), len(made), points, pending)

    def _take(self, series_no: int, numbers: Sequence[int]) -> None:
        self._gone.setdefault(series_no, []).extend(numbers)

    def _put(self, series_no: int, number: int, chunk: ChunkGroup, *, large: bool) -> None:
        (self._large if large else self._small).append(NumberedChunks(chunk, [series_no], [number]))


def _crowded(connection: Connection, run_id: str, *, finish: bool, many: int) -> Crowds:
    """Series and attempts with chunks that are to be merged, and how many each has."""
    number, points = func.count(), func.sum(chunk_tail.c.count)
    if finish:
        wanted = or_(number > 1, points >= LARGE_CHUNK_POINTS)
    elif many < CROWD:
        wanted = number >= many
    else:
        wanted = and_(number >= many, points <= number * _WORTHWHILE_POINTS)
    query = (
        select(chunk_tail.c.series_no, chunk_tail.c.attempt, number)
        .where(chunk_tail.c.run_id == run_id)
        .group_by(chunk_tail.c.series_no, chunk_tail.c.attempt)
        .having(wanted)
        .order_by(chunk_tail.c.series_no, chunk_tail.c.attempt)
        .limit(_MOST_CROWDS)
    )
    return tuple(((row[0], row[1]), row[2]) for row in connection.execute(query))


def _first_of(crowds: Mapping[tuple[int, int], int]) -> list[tuple[int, int]]:
    """Those that fill one transaction."""
    some: list[tuple[int, int]] = []
    chunks_of_some = 0
    for crowd in sorted(crowds):
        if chunks_of_some >= _MOST_CHUNKS:
            break
        some.append(crowd)
        chunks_of_some += crowds[crowd]
    return some


def _taken(heads: Sequence[tuple[int, ChunkHead]]) -> Iterator[tuple[int, ChunkHead]]:
    """As many as may be in memory together, at least two: so there is progress."""
    points = 0
    for at, (series_no, head) in enumerate(heads):
        points += head.count
        if points > _MOST_POINTS and at > 1:
            return
        yield series_no, head


def _read(connection: Connection, run_id: str, series_no: int, heads: Sequence[ChunkHead]) -> list[StoredChunk]:
    parts = list(read_chunks(connection, run_id, series_no, heads))
    return sorted(parts, key=lambda part: (int(part.steps[0]), part.chunk_no))


def _stretches(
    connection: Connection, run_id: str, series_no: int, parts: Sequence[StoredChunk]
) -> Iterator[list[StoredChunk]]:
    """Chunks, given by first step, parted where a large one lies between two: one made of both would overlap it, and
    what overlaps can only be read together."""
    low, high = int(parts[0].steps[0]), max(int(part.steps[-1]) for part in parts)
    query = select(chunks.c.first_step, chunks.c.last_step).where(
        chunks.c.run_id == run_id,
        chunks.c.series_no == series_no,
        chunks.c.first_step >= low,
        chunks.c.last_step <= high,
    )
    between = sorted((first, last) for first, last in connection.execute(query))
    at = 0
    stretch: list[StoredChunk] = []
    end = low
    for part in parts:
        while at < len(between) and between[at][0] < end:
            at += 1
        if stretch and at < len(between) and between[at][1] <= int(part.steps[0]):
            yield stretch
            stretch = []
        stretch.append(part)
        end = max(end, int(part.steps[-1]))
    yield stretch


def _glued(connection: Connection, run_id: str, heads: Sequence[tuple[int, ChunkHead]]) -> set[tuple[int, int]]:
    """Chunks that go on where a large one of the same flush ended, at the same step and time: series and number.

    Points of one write that tie stand in the order of their chunks, so these must not become part of another chunk.
    """
    before = {(series_no, head.chunk_no - 1): head for series_no, head in heads}
    if not before:
        return set()
    query = select(chunks.c.series_no, chunks.c.chunk_no, chunks.c.attempt, chunks.c.last_step, chunks.c.last_ms).where(
        chunks.c.run_id == run_id,
        chunks.c.series_no.in_({series_no for series_no, _ in before}),
        chunks.c.chunk_no.in_({number for _, number in before}),
    )
    glued = set()
    for series_no, number, attempt, last_step, last_ms in connection.execute(query):
        head = before.get((series_no, number))
        if head is None:
            continue
        # Where the last time is not known, it may be the same.
        last = (attempt, last_step, head.first_ms if last_ms is None else last_ms)
        if last == (head.attempt, head.first_step, head.first_ms):
            glued.add((series_no, head.chunk_no))
    return glued
