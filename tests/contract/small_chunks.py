"""Chunks of a few points, so that tests with few points have many of them; and naive readings to hold reads against."""

import math
from collections.abc import Sequence

import pytest

from tracker_server import limits
from tracker_server.store import compaction, series_book
from tracker_server.store.compaction import SEVERAL, Compacted
from tracker_server.store.store import Store

Point = tuple[int, int, str]
"""Step, time and repr of the value."""


def make_chunks_small(patch: pytest.MonkeyPatch, *, most: int = 6, large: int = 3, at_once: int = 12) -> None:
    """Chunks of at most `most` points, of which those with `large` count as large; a compaction takes few at a time."""
    patch.setattr(limits, "MAX_CHUNK_POINTS", most)
    patch.setattr(series_book, "LARGE_CHUNK_POINTS", large)
    patch.setattr(compaction, "LARGE_CHUNK_POINTS", large)
    patch.setattr(compaction, "_MOST_CHUNKS", at_once)
    patch.setattr(compaction, "_MOST_POINTS", 4 * most)


def compact_whole(store: Store, run: str, *, finish: bool = True) -> Compacted:
    """Merges all there is."""
    total = done = Compacted()
    while (done := store.compact(run, finish=finish, many=SEVERAL, pending=done.pending)).parts:
        total = total.plus(done)
    return total


def chunk_counts(store: Store, table: str, run: str) -> list[int]:
    """Points of each chunk of a run, by series and number."""
    query = f"SELECT count FROM {table} WHERE run_id = '{run}' ORDER BY series_no, chunk_no"
    with store._reader.connect() as connection:
        return [row[0] for row in connection.exec_driver_sql(query)]


def naive_downsampling(series: Sequence[Point], max_points: int) -> list[Point]:
    """What the contract says of a downsampled read, point by point."""
    total = len(series)
    if total <= max_points:
        return list(series)
    values = [float(value) for _, _, value in series]
    odd = [at for at, value in enumerate(values) if not math.isfinite(value)]
    buckets = max(1, (max_points - 2) // (3 if odd else 2))
    kept = {0, total - 1}
    for bucket in range(buckets):
        inside = range(bucket * total // buckets, (bucket + 1) * total // buckets)
        finite = [at for at in inside if math.isfinite(values[at])]
        if finite:
            kept.add(min(finite, key=lambda at: values[at]))
            kept.add(max(finite, key=lambda at: values[at]))
        if max_points > 4:
            kept.update([at for at in odd if at in inside][:1])
    return [series[at] for at in sorted(kept)]
