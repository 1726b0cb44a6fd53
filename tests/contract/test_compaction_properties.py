"""Flushes, redeliveries, attempts and compactions in any order give what a naive reading of the rules gives, whole and
downsampled."""

import itertools
import math
import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from deploy.servers import PostgreSQL
from tests.contract.deliveries import EXPIRED_BEFORE, compact, deliver, refresh
from tests.contract.restoring import restored
from tests.contract.small_chunks import Point, compact_whole, make_chunks_small, naive_downsampling
from tests.contract.store_databases import postgres_store, sqlite_store
from tests.contract.store_state import points_of, read_state
from tests.contract.store_strategies import EXPERIMENTS, RUNS, histories, renamed
from tests.contract.store_writes import T, points, write
from tracker_server.model.records import Position
from tracker_server.model.writes import RewindRun, Write
from tracker_server.store.history_reader import HistoryQuery
from tracker_server.store.point_reader import StepRange
from tracker_server.store.store import Store

_numbers = itertools.count()
_settings = settings(max_examples=60, suppress_health_check=list(HealthCheck))
_brief = settings(_settings, max_examples=25)


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Iterator[None]:
    """Chunks of a few points."""
    with pytest.MonkeyPatch.context() as patch:
        make_chunks_small(patch)
        yield


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with sqlite_store(tmp_path_factory.mktemp("compaction"), synced=False) as store:
        yield store


@pytest.fixture(scope="module")
def postgres(postgresql: PostgreSQL) -> Iterator[Store]:
    with postgres_store(postgresql) as store:
        yield store


@st.composite
def long_histories(draw: st.DrawFn) -> list[Write]:
    """Points of one metric: most of them in the order of their steps, some late, some of a new attempt or after a rewind."""
    source = random.Random(draw(st.integers(0, 2**32)))
    writes, step, attempt = [], 0, 1
    for sequence in range(1, draw(st.integers(5, 40))):
        if source.random() < 0.05:
            attempt, step = attempt + 1, source.randint(0, step)
            if source.random() < 0.5:
                writes.append(write(sequence + 1000, RewindRun(T, step), run=RUNS[0], attempt=attempt))
        count = source.choice([1, 1, 1, 2, 5, 20])
        steps = [step + n * source.choice([0, 1]) for n in range(count)]
        step = max(steps) + source.choice([0, 1, 1])
        late = source.random() < 0.1
        writes.append(
            write(
                sequence,
                points(
                    [one - (source.randint(0, 30) if late else 0) for one in steps],
                    [source.choice([source.random(), 0.5, -0.0, math.nan, math.inf, -1e308]) for _ in steps],
                    times=[T + source.randint(0, 1) for _ in steps],
                ),
                run=RUNS[0],
                writer=source.choice(["x-writer-0000000000", "y-writer-0000000000"]),
                attempt=source.choice([attempt, attempt, attempt, 0]),
            )
        )
    return writes


def compact_often(store: Store, runs: Sequence[str], source: random.Random) -> None:
    """Merges some chunks, more than once."""
    while source.random() < 0.4:
        compact(store, runs, source)


def check(store: Store, history: list[Write], seed: int, *, shuffled: bool) -> None:
    """Compares every read with the naive reading, before and after the last compaction."""
    source = random.Random(seed)
    prefix = f"c{next(_numbers)}-"
    note(f"as {prefix}")
    writes = [renamed(one, prefix) for one in history]
    runs = [prefix + run for run in RUNS]
    delivered = deliver(store, writes, runs, source, shuffled=shuffled, beside=_BESIDE, sizes=(1, 1, 2, 5))
    experiments = [prefix + name for name in EXPERIMENTS]
    expected = restored(store, delivered.applied, runs, experiments, delivered.dead, EXPIRED_BEFORE)
    assert read_state(store, runs, experiments) == expected
    for run in runs:
        compact_whole(store, run, finish=source.random() < 0.5)
    assert read_state(store, runs, experiments) == expected
    for run, state in expected["runs"].items():
        for name, series in state["history"].items() if state else ():
            check_downsampled(store, run, name, series, source)


def check_downsampled(store: Store, run: str, name: str, series: list[Point], source: random.Random) -> None:
    """Downsampled reads and pages of some range of steps."""
    steps = [step for step, _, _ in series]
    for max_points in (4, source.randint(5, 9), source.randint(10, 60)):
        low, high = (None, None) if not steps or source.random() < 0.5 else sorted(source.choices(steps, k=2))
        inside = [point for point in series if low is None or high is None or low <= point[0] <= high]
        query = HistoryQuery([run], [name], StepRange(low, high), max_points, 1000)
        (part,) = store.read_history(query, Position()).parts
        assert points_of(part) == naive_downsampling(inside, max_points)
        assert (part.total_points, part.downsampled) == (len(inside), len(inside) > max_points)
    paged, position = [], Position()
    while True:
        page = store.read_history(HistoryQuery([run], [name], StepRange(), 0, source.randint(1, 20)), position)
        paged += [point for one in page.parts for point in points_of(one)]
        assert {one.total_points for one in page.parts} == {len(series)}
        if page.following is None:
            break
        position = page.following
        store.compact(run, finish=False, many=2)
    assert paged == series


_BESIDE = ((compact_often, 1.0), (refresh, 0.1))


@_settings
@given(histories(), st.integers(0, 2**32))
def test_sqlite_with_compactions_reads_as_told_naively(sqlite: Store, history: list[Write], seed: int) -> None:
    check(sqlite, history, seed, shuffled=True)


@_settings
@given(long_histories(), st.integers(0, 2**32), st.booleans())
def test_sqlite_with_compactions_reads_long_series_as_told_naively(
    sqlite: Store, history: list[Write], seed: int, shuffled: bool
) -> None:
    check(sqlite, history, seed, shuffled=shuffled)


@_brief
@given(histories(), st.integers(0, 2**32))
def test_postgresql_with_compactions_reads_as_told_naively(postgres: Store, history: list[Write], seed: int) -> None:
    check(postgres, history, seed, shuffled=True)


@_brief
@given(long_histories(), st.integers(0, 2**32), st.booleans())
def test_postgresql_with_compactions_reads_long_series_as_told_naively(
    postgres: Store, history: list[Write], seed: int, shuffled: bool
) -> None:
    check(postgres, history, seed, shuffled=shuffled)
