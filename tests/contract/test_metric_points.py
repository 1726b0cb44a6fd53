"""The view for psql and Grafana shows exactly the points that a history gives."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from deploy.servers import PostgreSQL
from tests.contract.store_attempts import resumed
from tests.contract.store_databases import execute, postgres_store
from tests.contract.store_history import fill_nastily
from tests.contract.store_state import read_all
from tests.contract.store_writes import RUN, T, block, points, write
from tracker_server import limits
from tracker_server.model.writes import LogPoints, RewindRun
from tracker_server.store.store import Store


@pytest.fixture
def store(postgresql: PostgreSQL) -> Iterator[Store]:
    with postgres_store(postgresql) as store:
        yield store


def viewed(store: Store, run: str, name: str) -> list[tuple[int, int, str]]:
    """What the view has of a series, in any order: step, time and value."""
    query = text("SELECT step, time_unix_ms, value FROM metric_points WHERE run_id = :run AND name = :name")
    with store._reader.connect() as connection:
        rows = connection.execute(query, {"run": run, "name": name})
        return sorted((row.step, row.time_unix_ms, repr(row.value)) for row in rows)


def assert_same(store: Store, run: str, *names: str) -> int:
    """The view has what the history has; returns how many points."""
    history = read_all(store, run, list(names))
    for name in names:
        assert viewed(store, run, name) == sorted(history[name])
    return sum(len(series) for series in history.values())


def test_the_view_has_the_live_points_of_all_attempts(store: Store) -> None:
    store.flush(resumed())
    assert assert_same(store, RUN, "m") == 7


def test_the_view_has_nasty_points_whole_and_once(store: Store) -> None:
    fill_nastily(store)
    store.flush([write(1, points(range(10_000), [0.5] * 10_000, name="large"), run="large")])
    assert assert_same(store, RUN, "m") > 40
    assert assert_same(store, "large", "large") == 10_000


def test_the_view_has_wide_steps_and_times_and_values_that_are_no_numbers(store: Store) -> None:
    steps = [-(2**63), -(2**62), 0, 2**62, 2**63 - 1]
    times = [limits.MIN_TIME_MS, limits.MAX_TIME_MS, T, -1, 0]
    rows = [[math.nan, math.inf, -math.inf, -0.0, 5e-324], [1e308] * 5]
    store.flush([write(1, LogPoints((block(["m", '"{,\\'], steps, rows, times),)))])
    assert assert_same(store, RUN, "m", '"{,\\') == 10


def test_the_view_obeys_explicit_cuts(store: Store) -> None:
    store.flush([write(1, points(range(6), [0.5] * 6)), write(2, RewindRun(T, 4), attempt=2)])
    assert assert_same(store, RUN, "m") == 4
    # Of late points and new series too, and of several rewinds.
    store.flush(
        [write(3, points(range(6), [0.5] * 6, name="new"), attempt=1), write(4, points([4, 5], [0.5] * 2), attempt=2)]
    )
    store.flush([write(5, RewindRun(T, 5), attempt=3), write(6, points([9], [0.5]))])
    assert assert_same(store, RUN, "m", "new") == 9


def test_times_are_timestamps_to_the_millisecond_in_every_year(store: Store) -> None:
    times = [limits.MIN_TIME_MS, -1, 0, T + 123, limits.MAX_TIME_MS]
    store.flush([write(1, points(range(5), [0.5] * 5, times=times))])
    query = text("SELECT time, time_unix_ms FROM metric_points ORDER BY step")
    with store._reader.connect() as connection:
        rows = connection.execute(query).all()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for row in rows:
        delta = row.time.astimezone(UTC) - epoch
        assert round(delta.total_seconds() * 1000) == row.time_unix_ms
    assert (rows[0].time.year, rows[-1].time.year) == (1, 9999)


def test_a_time_that_no_calendar_has_shows_as_null(store: Store) -> None:
    store.flush([write(1, points([1], [0.5]))])
    execute(store, "UPDATE chunk_tail SET first_ms = :far", far=limits.MAX_TIME_MS + 1)
    with store._reader.connect() as connection:
        row = connection.execute(text("SELECT time, time_unix_ms FROM metric_points")).one()
    assert tuple(row) == (None, limits.MAX_TIME_MS + 1)
