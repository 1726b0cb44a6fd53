"""Journals for tests: written without a keeper's thread, with small segments, and read back row by row."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tracker_client.journal import segment, writer
from tracker_client.journal.folder import JournalFolder
from tracker_client.journal.frames import Identity
from tracker_client.journal.reader import Batch, JournalReader
from tracker_client.journal.writer import JournalWriter

IDENTITY = Identity("run-1", "writer-0123456789abcdef", 7, "127.0.0.1:1")
TIME = 1_700_000_000_000

Row = tuple[tuple[str, ...], bytes]
"""Names, and the bits of step, time and values."""


class Allocator:
    """A keeper that makes segments as soon as it is woken, as long as it may."""

    def __init__(self) -> None:
        self.writer: JournalWriter | None = None
        self.may = True
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1
        if self.may and self.writer is not None:
            self.writer.supply.make()


def new_writer(directory: Path, identity: Identity = IDENTITY) -> tuple[JournalWriter, Allocator]:
    keeper = Allocator()
    made = JournalWriter(directory, identity, keeper)
    keeper.writer = made
    made.supply.make()
    return made, keeper


@contextmanager
def small(segment_bytes: int = 4096, batch_bytes: int = 1024) -> Iterator[None]:
    """Segments and batches of few bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "SMALLEST_BYTES", segment_bytes)
        patch.setattr(segment, "LARGEST_BYTES", 2 * segment_bytes)
        patch.setattr(writer, "BATCH_BYTES", batch_bytes)
        yield


def row(metrics: Mapping[str, float], step: int, time_ms: int = TIME) -> Row:
    return tuple(metrics), struct.pack(f"<qq{len(metrics)}d", step, time_ms, *metrics.values())


def rows_of(batch: Batch) -> list[Row]:
    """In the order in which they were logged."""
    each = {schema: iter(group.rows) for schema, group in batch.groups.items()}
    order = batch.order or [schema for schema, group in batch.groups.items() for _ in group.rows]
    return [(batch.groups[schema].names, bytes(next(each[schema]))) for schema in order]


def read_all(folder: JournalFolder, *, owned: bool = False) -> list[Batch]:
    reader = JournalReader(folder)
    try:
        return drain(reader, owned=owned)
    finally:
        reader.close()


def drain(reader: JournalReader, *, owned: bool) -> list[Batch]:
    """All batches that are there by now."""
    batches = []
    while (batch := reader.next_batch(owned=owned)) is not None:
        batches.append(batch)
    return batches


def all_rows(folder: JournalFolder) -> list[Row]:
    return [each for batch in read_all(folder) for each in rows_of(batch)]
