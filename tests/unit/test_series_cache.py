"""Rows of series that a consumer remembers between flushes."""

from __future__ import annotations

import pytest

from tracker_server.store import series_cache
from tracker_server.store.series_book import SeriesState
from tracker_server.store.series_cache import SeriesCache


def flush(cache: SeriesCache, run_id: str, *names: str) -> None:
    """Adds rows, as a flush that ends well does."""
    with cache.used() as used:
        states = used.take(run_id)
        for name in names:
            states[name] = SeriesState(run_id, name, len(states) + 1, chunk_count=1)


def known(cache: SeriesCache, run_id: str) -> dict[str, SeriesState]:
    """What is remembered, without forgetting it."""
    with cache.used() as used:
        return dict(used.take(run_id))


def fail_having_touched(states: dict[str, SeriesState]) -> None:
    """What a flush does that fails."""
    states["a"].touch()
    states["not there"].touch()


def test_what_was_written_is_known_with_its_number() -> None:
    cache = SeriesCache()
    flush(cache, "r", "a", "b")
    assert {name: state.stored_count for name, state in known(cache, "r").items()} == {"a": 1, "b": 1}


def test_what_a_failed_flush_has_touched_is_forgotten() -> None:
    cache = SeriesCache()
    flush(cache, "r", "a")
    flush(cache, "other", "a")
    with pytest.raises(KeyError), cache.used() as used:
        fail_having_touched(used.take("r"))
    assert known(cache, "r") == {}
    assert set(known(cache, "other")) == {"a"}


def test_the_run_used_least_lately_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series_cache, "MOST", 4)
    cache = SeriesCache()
    flush(cache, "one", "a", "b")
    flush(cache, "two", "a", "b")
    known(cache, "one")
    flush(cache, "three", "a")
    assert [len(known(cache, run_id)) for run_id in ("two", "one", "three")] == [0, 2, 1]


def test_a_second_flush_at_the_same_time_knows_nothing_and_changes_nothing() -> None:
    cache = SeriesCache()
    flush(cache, "r", "a")
    with cache.used() as first, cache.used() as second:
        assert set(first.take("r")) == {"a"}
        assert second.take("r") == {}
    assert set(known(cache, "r")) == {"a"}


def test_rows_that_others_wrote_are_read_again_also_when_a_flush_has_them_just_then() -> None:
    cache = SeriesCache()
    flush(cache, "r", "a")
    flush(cache, "other", "a")
    cache.forget("r")
    assert known(cache, "r") == {}
    with cache.used() as used:
        used.take("other")
        cache.forget("other")
    assert known(cache, "other") == {}
    flush(cache, "other", "b")
    assert set(known(cache, "other")) == {"b"}
