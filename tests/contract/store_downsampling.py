"""What a store promises of downsampled reads of many chunks: what the contract says, without reading every point."""

import math
from collections.abc import Iterable

import numpy as np
import pytest

from tests.contract.small_chunks import compact_whole, naive_downsampling
from tests.contract.store_databases import execute
from tests.contract.store_state import points_of
from tests.contract.store_writes import RUN, T, points, write
from tracker_server import limits
from tracker_server.model.records import Position, SeriesPart
from tracker_server.store import chunk_reader, downsampled_reader
from tracker_server.store.chunk_reader import ChunkHead
from tracker_server.store.history_reader import HistoryQuery
from tracker_server.store.point_reader import StepRange
from tracker_server.store.store import Store

CHUNKS = 20
TOTAL = CHUNKS * limits.MAX_CHUNK_POINTS
Points = list[tuple[int, int, str]]


def fill(store: Store, *, per_flush: int) -> Points:
    """Three points a step, some of them no numbers; returns all of them."""
    values = np.random.default_rng(1).standard_normal(TOTAL)
    values[[7, 30_000, 30_001, 50_000]] = [math.nan, math.inf, -math.inf, math.nan]
    values[[40_000, 60_000]] = [99.0, -99.0]
    values[70_000:70_010] = -0.0
    series = [(at // 3, T + at, value) for at, value in enumerate(values.tolist())]
    for sequence, at in enumerate(range(0, TOTAL, per_flush), 1):
        steps, times, some = zip(*series[at : at + per_flush], strict=True)
        store.flush([write(sequence, points(steps, some, times=times))])
    return [(step, time, repr(value)) for step, time, value in series]


def downsampled(store: Store, max_points: int, steps: StepRange) -> SeriesPart:
    """One downsampled read."""
    (part,) = store.read_history(HistoryQuery([RUN], ["m"], steps, max_points, 2000), Position()).parts
    return part


class DownsamplingContract:
    """The part of the battery about downsampled reads of many chunks."""

    def test_chunks_that_lie_in_one_bucket_are_not_read(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = fill(store, per_flush=5 * limits.MAX_CHUNK_POINTS)
        read = chunk_reader.read_values
        asked: list[ChunkHead] = []

        def noted(connection: object, run_id: str, series_no: int, heads: Iterable[ChunkHead]) -> object:
            asked.extend(heads)
            return read(connection, run_id, series_no, asked)  # type: ignore[arg-type]  # as it came

        monkeypatch.setattr(downsampled_reader, "read_values", noted)
        for max_points, buckets in ((4, 1), (5, 1), (20, 6), (32, 10)):
            asked.clear()
            part = downsampled(store, max_points, StepRange())
            assert points_of(part) == naive_downsampling(whole, max_points)
            assert (part.total_points, part.downsampled) == (TOTAL, True)
            assert len(asked) <= buckets - 1

    @pytest.mark.parametrize("max_points", [4, 7, 100, 1000])
    def test_zooming_in_gives_finer_buckets_down_to_the_points_themselves(self, store: Store, max_points: int) -> None:
        whole = fill(store, per_flush=3_000)
        compact_whole(store, RUN)
        low, high = 0, TOTAL // 3
        while high >= low:
            inside = [point for point in whole if low <= point[0] <= high]
            part = downsampled(store, max_points, StepRange(low, high))
            assert points_of(part) == naive_downsampling(inside, max_points)
            assert part.total_points == len(inside)
            low, high = low + (high - low) // 3, high - max(1, (high - low) // 2)
        assert not part.downsampled

    def test_chunks_of_the_first_version_have_no_digests_and_read_the_same(self, store: Store) -> None:
        whole = fill(store, per_flush=5 * limits.MAX_CHUNK_POINTS)
        execute(
            store,
            "UPDATE chunks SET finite_count = NULL, min_index = NULL, max_index = NULL, non_finite_index = NULL, "
            "last_ms = NULL WHERE chunk_no % 3 <> 0",
        )
        for max_points in (4, 50, 1000):
            assert points_of(downsampled(store, max_points, StepRange())) == naive_downsampling(whole, max_points)
