"""What a store promises of compaction: large chunks in place of small ones, and no reader sees anything of it."""

import random
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, text

from tests.contract.small_chunks import chunk_counts, compact_whole, make_chunks_small, naive_downsampling
from tests.contract.store_databases import execute
from tests.contract.store_history import OPEN, fill_nastily
from tests.contract.store_state import points_of, read_run, read_series, read_state
from tests.contract.store_writes import RUN, T, block, complete, points, write
from tracker_server import limits
from tracker_server.model.records import Position
from tracker_server.model.writes import LogPoints
from tracker_server.store import compaction
from tracker_server.store.chunk_reader import StoredChunk
from tracker_server.store.compaction import CROWD, Compacted
from tracker_server.store.history_reader import HistoryQuery
from tracker_server.store.store import Store
from tracker_server.store.tables import chunk_tail

MOST = limits.MAX_CHUNK_POINTS


def log_singly(store: Store, total: int, *, first: int = 1, names: tuple[str, ...] = ("m",)) -> None:
    """One point of each metric in each flush."""
    for sequence in range(first, first + total):
        rows = [[float(sequence % 7)]] * len(names)
        store.flush([write(sequence, LogPoints((block(names, [sequence], rows, [T + sequence]),)))])


class CompactionContract:
    """The part of the battery about compaction."""

    @pytest.fixture
    def small(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            make_chunks_small(patch)
            yield

    def test_single_points_become_one_large_chunk_and_read_the_same(self, store: Store) -> None:
        log_singly(store, 200, names=("m", "n"))
        before = read_run(store, RUN)
        assert compact_whole(store, RUN) == Compacted(400, 2, 400)
        assert chunk_counts(store, "chunk_tail", RUN) == []
        assert chunk_counts(store, "chunks", RUN) == [200, 200]
        assert read_run(store, RUN) == before
        assert compact_whole(store, RUN) == Compacted()

    def test_along_the_way_only_crowded_series_are_merged_and_the_rest_stays_small(self, store: Store) -> None:
        log_singly(store, CROWD - 1)
        assert store.compact(RUN, finish=False) == Compacted()
        log_singly(store, 1, first=CROWD)
        assert store.compact(RUN, finish=False) == Compacted(CROWD, 1, CROWD)
        assert (chunk_counts(store, "chunk_tail", RUN), chunk_counts(store, "chunks", RUN)) == ([CROWD], [])
        before = read_run(store, RUN)
        assert compact_whole(store, RUN, finish=False) == Compacted()
        assert read_run(store, RUN) == before

    def test_chunks_are_full_and_only_the_last_is_not(self, store: Store) -> None:
        for sequence in range(1, 13):
            steps = range(sequence * 1000, sequence * 1000 + 1000)
            store.flush([write(sequence, points(steps, np.random.default_rng(sequence).random(1000).tolist()))])
        before = read_run(store, RUN)
        compact_whole(store, RUN, finish=False)
        assert chunk_counts(store, "chunks", RUN) == [MOST, MOST]
        assert chunk_counts(store, "chunk_tail", RUN) == [12_000 - 2 * MOST]
        assert read_run(store, RUN) == before
        compact_whole(store, RUN)
        assert chunk_counts(store, "chunks", RUN) == [MOST, MOST, 12_000 - 2 * MOST]
        assert read_run(store, RUN) == before

    def test_attempts_are_never_mixed(self, store: Store) -> None:
        for attempt in (1, 2):
            batch = [write(n + 100 * attempt, points([n], [float(n)]), attempt=attempt) for n in range(5 * attempt, 20)]
            for one in batch:
                store.flush([one])
        before = read_run(store, RUN)
        compact_whole(store, RUN)
        assert sorted(chunk_counts(store, "chunks", RUN)) == [10, 15]
        assert read_run(store, RUN) == before

    def test_small_chunks_with_a_large_one_between_them_are_not_put_together(self, store: Store) -> None:
        log_singly(store, 10)
        store.flush([write(11, points(range(1000, 3000), [0.5] * 2000))])
        log_singly(store, 5, first=5000)
        before = read_run(store, RUN)
        compact_whole(store, RUN, finish=False)
        assert (sorted(chunk_counts(store, "chunks", RUN)), chunk_counts(store, "chunk_tail", RUN)) == ([10, 2000], [5])
        assert compact_whole(store, RUN) == Compacted()
        assert read_run(store, RUN) == before

    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize("finish", [True, False])
    def test_nasty_points_read_the_same_before_and_after_and_in_any_pages(self, store: Store, finish: bool) -> None:
        fill_nastily(store)
        before = read_state(store, [RUN], [])
        assert compact_whole(store, RUN, finish=finish).parts
        assert read_state(store, [RUN], []) == before
        whole = points_of(read_series(store, RUN, "m"))
        for max_points in (4, 5, 12, 30):
            (part,) = store.read_history(HistoryQuery([RUN], ["m"], OPEN, max_points, 1000), Position()).parts
            assert points_of(part) == naive_downsampling(whole, max_points)

    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize("size", [1, 3, 7, 40])
    def test_page_tokens_survive_compactions_between_pages(self, store: Store, size: int) -> None:
        fill_nastily(store)
        whole = points_of(read_series(store, RUN, "m"))
        query = HistoryQuery([RUN], ["m"], OPEN, 0, size)
        found, position = [], Position()
        while True:
            page = store.read_history(query, position)
            found += [point for part in page.parts for point in points_of(part)]
            if page.following is None:
                break
            position = page.following
            store.compact(RUN, finish=False, many=2)
        assert found == whole

    @pytest.mark.usefixtures("small")
    def test_points_of_one_write_that_tie_keep_their_order(self, store: Store) -> None:
        store.flush([write(1, points([1], [-1.0]))])
        store.flush([write(2, points([5] * 40, [float(n) for n in range(40)]))])
        store.flush([write(3, points([5, 5, 6], [100.0, 101.0, 102.0]))])
        expected = [-1.0, *range(40), 100.0, 101.0, 102.0]
        compact_whole(store, RUN, finish=False)
        assert read_series(store, RUN, "m").values.tolist() == expected
        compact_whole(store, RUN)
        assert read_series(store, RUN, "m").values.tolist() == expected

    def test_a_rest_that_ties_with_the_large_chunk_before_it_keeps_its_place(self, store: Store) -> None:
        """As the first version stored them: the rest of a flush small, beside its large chunks."""
        store.flush([write(1, points([1, 5], [-2.0, -1.0]))])
        values = [float(n) for n in range(MOST + 10)]
        store.flush([write(2, points([5] * len(values), values, times=[T + 1] * len(values)))])
        names = ", ".join(column.name for column in chunk_tail.c)
        last = "run_id = :run AND chunk_no = 3"
        execute(store, f"INSERT INTO chunk_tail ({names}) SELECT {names} FROM chunks WHERE {last}", run=RUN)
        execute(store, f"DELETE FROM chunks WHERE {last}", run=RUN)
        expected = [-2.0, -1.0, *values]
        assert read_series(store, RUN, "m").values.tolist() == expected
        compact_whole(store, RUN)
        assert chunk_counts(store, "chunk_tail", RUN) == []
        assert read_series(store, RUN, "m").values.tolist() == expected

    def test_totals_made_anew_from_merged_chunks_are_the_same(self, store: Store) -> None:
        log_singly(store, 30)
        before = read_run(store, RUN)
        compact_whole(store, RUN)
        execute(store, "UPDATE series SET stale = :yes", yes=True)
        assert read_run(store, RUN) == before
        store.refresh_totals(RUN)
        assert read_run(store, RUN) == before

    def test_what_fails_in_the_middle_changes_nothing_and_is_done_again(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log_singly(store, 20)
        before, counts = read_run(store, RUN), chunk_counts(store, "chunk_tail", RUN)
        insert = store._bulk.insert_chunks

        def die(*arguments: Any) -> None:
            insert(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(store._bulk, "insert_chunks", die)
        with pytest.raises(KeyboardInterrupt):
            store.compact(RUN, finish=True)
        monkeypatch.undo()
        assert (chunk_counts(store, "chunk_tail", RUN), chunk_counts(store, "chunks", RUN)) == (counts, [])
        assert read_run(store, RUN) == before
        assert compact_whole(store, RUN).parts == 20
        assert read_run(store, RUN) == before

    def test_chunks_that_went_away_meanwhile_are_noticed(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        log_singly(store, 5)
        read = compaction._read

        def read_and_lose(connection: Connection, *arguments: Any) -> list[StoredChunk]:
            parts = read(connection, *arguments)
            connection.execute(text("DELETE FROM chunk_tail WHERE chunk_no = 1"))
            return parts

        monkeypatch.setattr(compaction, "_read", read_and_lose)
        with pytest.raises(RuntimeError, match="went away"):
            store.compact(RUN, finish=True)
        monkeypatch.undo()
        assert len(read_series(store, RUN, "m").steps) == 5

    @pytest.mark.usefixtures("small")
    def test_two_compactors_and_flushes_at_once_lose_and_double_nothing(self, store: Store) -> None:
        source = random.Random(3)
        writes = [
            write(n, points([n // 2], [source.random()], name=source.choice("ab")), attempt=source.choice([0, 1]))
            for n in range(1, 241)
        ]
        done = threading.Event()
        failures: list[BaseException] = []

        def keep_on(work: Callable[[], object]) -> None:
            try:
                while not done.wait(0.001):
                    work()
            except BaseException as error:  # noqa: BLE001  # seen by the test
                failures.append(error)

        def read() -> None:
            part = read_series(store, RUN, "a")
            assert part.total_points == len(part.steps)
            assert part.steps.tolist() == sorted(part.steps.tolist())

        store.flush(writes[:1])
        threads = [
            threading.Thread(target=keep_on, args=(work,))
            for work in (
                lambda: store.compact(RUN, finish=True),
                lambda: store.compact(RUN, finish=False, many=2),
                read,
            )
        ]
        for thread in threads:
            thread.start()
        try:
            for at in range(0, len(writes), 3):
                store.flush(writes[at : at + 4])
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert failures == []
        compacted = read_run(store, RUN)
        assert compacted is not None
        store.flush([replace(one, scope_id="twin") for one in writes])
        twin = read_run(store, "twin")
        assert twin is not None
        assert compacted["history"] == twin["history"]
        assert compacted["metrics"] == twin["metrics"]
        compact_whole(store, RUN)
        assert read_run(store, RUN) == compacted

    def test_memory_stays_small_however_much_there_is_to_merge(self, store: Store) -> None:
        names = tuple(f"m{n}" for n in range(8))
        rows = np.random.default_rng(0).random((8, 1000)).tolist()
        for sequence in range(1, 121):
            steps = range(sequence * 1000, sequence * 1000 + 1000)
            store.flush([write(sequence, LogPoints((block(names, steps, rows),)))])
        tracemalloc.start()
        try:
            done = compact_whole(store, RUN)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert done.parts >= 960
        assert peak < 8 * limits.MIB < 960_000 * 24

    def test_runs_with_small_chunks_are_listed_in_pages_with_whether_they_ended(self, store: Store) -> None:
        for run in ("a", "b", "c"):
            store.flush([write(1, points([1], [1.0]), run=run)])
        store.flush([write(2, complete(), run="b"), write(1, points(range(3000), [0.5] * 3000), run="large")])
        assert store.runs_with_small_chunks("", 2) == [("a", False), ("b", True)]
        assert store.runs_with_small_chunks("b", 2) == [("c", False)]
        assert store.runs_with_small_chunks("c", 2) == []
