"""Runs that are looked for are found, and no others: SQL against a naive reading, on both databases."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from deploy.servers import PostgreSQL
from tests.contract.naive_search import meets, sort_key
from tests.contract.store_databases import postgres_store, sqlite_store
from tests.contract.store_writes import T, complete, points, start, write
from tracker_client.config import to_config
from tracker_server.errors import InvalidRequest
from tracker_server.filters.conditions import Condition, condition_of, order_of
from tracker_server.filters.fields import STATISTICS
from tracker_server.model.typed_json import encode_double, encode_value
from tracker_server.store.json_values import json_values
from tracker_server.store.run_list import RunPlace, RunQuery
from tracker_server.store.run_search import RunSearch, metric_names
from tracker_server.store.store import Store
from tracker_server.store.tables import runs, series

_VALUES = [0, 1, 4, -3, 2**53, 2**53 + 1, 0.5, 4.0, 1e-5, 0.1, 0.30000000000000004, 1e300, -0.0, math.nan, math.inf]
_TEXTS = [
    "x" * 300 + "1",
    "x" * 300 + "0",
    "",
    "a",
    "A",
    "ab",
    "b",
    "éa",
    "ÉA",
    "a'b",
    'q"',
    "50%",
    "_",
    "\\",
    "true",
    "4",
    "z*",
]
_KEYS = ["a", "b", "lr", "$odd", 'q"k', "with space", "ü", "a.b"]
_METRICS = ["loss", "val/loss", 'q"m', "m.last"]
_VARIANTS: list[Any] = [*_VALUES, *_TEXTS, True, False, None, [1, "a", 0.1, None], [], {}, {"$odd": 1}]


def _run(source: random.Random, number: int) -> dict[str, Any]:
    """A run as it was written: every field may be missing."""

    def some(values: list[Any]) -> Any:
        return source.choice(values)

    def config(depth: int) -> dict[str, Any]:
        keys = source.sample(_KEYS, source.randint(0, 4))
        return {key: config(depth + 1) if depth < 2 and source.random() < 0.3 else some(_VARIANTS) for key in keys}

    metrics: dict[str, dict[str, Any]] = {}
    for name in source.sample(_METRICS, source.randint(0, 3)):
        known: dict[str, Any] = {"count": source.randint(1, 5), "last": float(some(_VALUES))}
        if source.random() < 0.6:
            low, high = sorted([float(source.randint(-3, 3)), float(source.randint(-3, 3))])
            known |= {"min": low, "max": high, "mean": (low + high) / 2}
        if source.random() < 0.3:
            known["final"] = float(some(_VALUES))
        metrics[name] = known
    return {
        "run_id": f"r{number:03}",
        "experiment_id": some(["e", "f"]),
        "name": some(_TEXTS),
        "notes": some(_TEXTS),
        "run_group": some(["", "g", "G2"]),
        "parent_run_id": some(["", "r000"]),
        "reason": some(_TEXTS),
        "stop_reason": "",
        "status": source.randint(1, 6),
        "attempt": some([0, 7, 2**53 + 1]),
        "stop_requested": some([True, False]),
        "tags": sorted(source.sample(["a", "A", "ab", "night", "ü"], source.randint(0, 3))),
        "metadata": {key: some(_TEXTS) for key in source.sample(_KEYS, source.randint(0, 3))},
        "artifacts": {key: some(_TEXTS) for key in source.sample(_KEYS, source.randint(0, 2))},
        "config": config(0),
        "final_metrics": {name: float(some(_VALUES)) for name in source.sample(_METRICS, source.randint(0, 2))},
        "created_ms": T + source.randint(0, 3) * 1000,
        "started_ms": T,
        "ended_ms": some([None, T, T + 5]),
        "last_seen_ms": T,
        "lost_ms": some([None, T]),
        "deleted_ms": None,
        "points_dropped_ms": None,
        "metrics": metrics,
    }


_source = random.Random(5)
RUNS = [_run(_source, number) for number in range(120)]


def _fill(store: Store) -> None:
    told, totals = list[dict[str, Any]](), list[dict[str, Any]]()
    with store._writer.begin() as connection:
        for run in RUNS:
            encoded = {key: encode_value(value) for key, value in to_config(run["config"]).values.items()}
            row = {name: value for name, value in run.items() if name != "metrics"} | {
                "config": encoded,
                "heard_ms": None,
                "final_metrics": {name: encode_double(value) for name, value in run["final_metrics"].items()},
                "experiment_conflicts": [],
                "registers": {},
            }
            told.append(row)
            totals += [
                _series(run["run_id"], name, number, known)
                for number, (name, known) in enumerate(run["metrics"].items(), 1)
            ]
        connection.execute(insert(runs), told)
        connection.execute(insert(series), totals)


def _series(run_id: str, name: str, number: int, known: dict[str, Any]) -> dict[str, Any]:
    from tracker_server.store import kinds

    last_value, last_kind = kinds.split(known["last"])
    final_value, final_kind = kinds.split(known.get("final"))
    finite = 2 if "mean" in known else 0
    return {
        "run_id": run_id,
        "name": name,
        "series_no": number,
        "count": known["count"],
        "finite_count": finite,
        "last_step": 1,
        "last_ms": T,
        "last_writer": "w",
        "last_sequence": 1,
        "last_value": last_value,
        "last_kind": last_kind,
        "min_value": known.get("min"),
        "max_value": known.get("max"),
        "sum": known.get("mean", 0.0) * finite,
        "huge_sum": 0.0,
        "final_value": final_value,
        "final_kind": final_kind,
    }


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with sqlite_store(tmp_path_factory.mktemp("search")) as store:
        _fill(store)
        yield store


@pytest.fixture(scope="module")
def postgres(postgresql: PostgreSQL) -> Iterator[Store]:
    with postgres_store(postgresql) as store:
        _fill(store)
        yield store


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


def _found(store: Store, query: RunQuery) -> list[str]:
    return [one.record.run_id for one in store.find_runs(query, None, 1000)[0]]


def _expected(condition: Condition | None) -> set[str]:
    return {run["run_id"] for run in RUNS if condition is None or meets(run, condition)}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_paths = st.one_of(
    st.sampled_from(["run_id", "name", "notes", "group", "parent_run_id", "reason", "experiment_id"]),
    st.builds(lambda m, k: f"{m}.{_quoted(k)}", st.sampled_from(["metadata", "artifacts"]), st.sampled_from(_KEYS)),
)
_config_paths = st.lists(st.sampled_from(_KEYS), min_size=1, max_size=3).map(
    lambda keys: ".".join(["config", *map(_quoted, keys)])
)
_number_paths = st.one_of(
    st.builds(
        lambda name, statistic: f"metrics.{_quoted(name)}.{statistic}",
        st.sampled_from(_METRICS),
        st.sampled_from(STATISTICS),
    ),
    st.sampled_from(_METRICS).map(lambda name: f"metrics.{_quoted(name)}"),
    st.sampled_from(_METRICS).map(lambda name: f"final_metrics.{_quoted(name)}"),
    st.just("attempt"),
)
_operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
_texts = st.sampled_from(_TEXTS).map(_quoted)
_numbers = st.sampled_from([*map(repr, _VALUES), "-inf", "4.5", "1e-05", "nan", "99999999999999999999", "-1"])
_comparisons = st.one_of(
    st.builds(lambda p, o, v: f"{p} {o} {v}", _paths, st.one_of(_operators, st.just(":")), _texts),
    st.builds(lambda p, v: f"{p} = {v}", _paths, st.sampled_from(['"a*"', '"*a"', '"*a*"', '"*"', "a*"])),
    st.builds(lambda p, o, v: f"{p} {o} {v}", _config_paths, _operators, st.one_of(_texts, _numbers)),
    st.builds(lambda p, v: f"{p}:{v}", _config_paths, st.one_of(_texts, _numbers, st.sampled_from(["true", "null"]))),
    st.builds(lambda p, o, v: f"{p} {o} {v}", _config_paths, st.sampled_from(["=", "!="]),
              st.sampled_from(["true", "false", "null", '"a*"'])),
    st.builds(lambda p, o, v: f"{p} {o} {v}", _number_paths, _operators, _numbers),
    st.builds(lambda p: f"{p}:*", st.one_of(_paths, _config_paths, _number_paths,
              st.sampled_from(["tags", "metadata", "ended_at", "lost_since", "stop_requested"]))),
    st.builds(lambda t: f"tags:{t}", st.sampled_from(["a", "night", '"a*"', '"*t"', "nothing", '"ü"'])),
    st.builds(lambda k: f"metadata:{_quoted(k)}", st.sampled_from(_KEYS)),
    st.builds(lambda o, s: f"status {o} {s}", st.sampled_from(["=", "!="]), st.sampled_from(["RUNNING", "lost"])),
    st.builds(lambda f, o: f"{f} {o} 2023-11-14T22:13:20Z", st.sampled_from(["created_at", "end_time", "lost_since"]),
              _operators),
    st.sampled_from(["stop_requested = true", "stop_requested != true", "night", '"ab"', "R00"]),
)  # fmt: skip
_filters = st.recursive(
    _comparisons,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(" AND ".join),
        st.lists(inner, min_size=2, max_size=3).map(" OR ".join),
        st.lists(inner, min_size=2, max_size=2).map(" ".join),
        inner.map(lambda text: f"NOT ({text})"),
        inner.map(lambda text: f"-({text})"),
    ).map(lambda text: f"({text})"),
    max_leaves=6,
)


@pytest.mark.parametrize("name", ["sqlite", "postgres"])
def test_a_filter_finds_what_a_naive_reading_finds(name: str, request: pytest.FixtureRequest) -> None:
    store: Store = request.getfixturevalue(name)

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_filters)
    def holds(text: str) -> None:
        condition = condition_of(text)
        assert set(_found(store, RunQuery(condition=condition))) == _expected(condition)

    holds()


_orders = st.lists(
    st.tuples(
        st.one_of(_paths, _config_paths, _number_paths, st.sampled_from(["created_at", "status", "stop_requested"])),
        st.sampled_from(["", " desc", " asc"]),
    ).map("".join),
    min_size=1,
    max_size=3,
).map(", ".join)


@pytest.mark.parametrize("name", ["sqlite", "postgres"])
def test_an_order_is_that_of_a_naive_reading_in_pages_of_any_size(name: str, request: pytest.FixtureRequest) -> None:
    store: Store = request.getfixturevalue(name)

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_orders, st.integers(1, 70), st.integers(0, 70))
    def holds(text: str, size: int, begin: int) -> None:
        order = order_of(text)
        expected = [run["run_id"] for run in sorted(RUNS, key=lambda run: sort_key(run, order))]
        whole, _ = store.find_runs(RunQuery(order=order), None, len(RUNS))
        assert [one.record.run_id for one in whole] == expected
        # Behind any run of the whole begins what follows it; a few of these pages, so that small ones cost no more.
        for index in range(begin, len(RUNS), max(size, len(RUNS) // 8)):
            page, _ = store.find_runs(RunQuery(order=order), whole[index].place, size)
            assert [one.record.run_id for one in page] == expected[index + 1 : index + 1 + size]
            assert [one.place for one in page] == [one.place for one in whole[index + 1 : index + 1 + size]]

    holds()


@pytest.mark.parametrize("name", ["sqlite", "postgres"])
@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_equal_runs_are_in_the_order_of_a_list_without_an_order(
    name: str, size: int, request: pytest.FixtureRequest
) -> None:
    """So no order, the newest first, and an order in which all are equal are the same, page by page."""
    store: Store = request.getfixturevalue(name)

    def listed(order: str) -> list[str]:
        ids: list[str] = []
        after: RunPlace | None = None
        while page := store.find_runs(RunQuery(order=order_of(order)), after, size)[0]:
            ids += [one.record.run_id for one in page]
            after = page[-1].place
        return ids

    newest_first = sorted(RUNS, key=lambda run: (run["created_ms"], run["run_id"]), reverse=True)
    assert listed("") == [run["run_id"] for run in newest_first]
    for order in ("created_at desc", "started_at", "stop_reason desc", "deleted_at, created_at desc"):
        assert listed(order) == listed(""), order
    by_status = sorted(newest_first, key=lambda run: int(run["status"]))
    assert listed("status") == listed("status, created_at desc") == [run["run_id"] for run in by_status]


def _texts_in(text: str, make: Callable[[str], Condition | None]) -> Iterator[tuple[str, Any]]:
    condition = make(text)
    assert condition is not None
    for kind in (SQLiteDialect, PGDialect):
        dialect = kind()
        metrics = {name: series.alias() for name in metric_names(condition, ())}
        search = RunSearch(json_values(dialect.name), metrics)
        compiled = search.holds(condition).compile(dialect=dialect)
        yield str(compiled), compiled.params


@pytest.mark.parametrize(
    "text",
    [
        'name = "x\'; DROP TABLE runs; --"',
        'metadata."k\'; DROP TABLE runs; --" = "x\'; DROP TABLE runs; --"',
        'config."k\'; DROP TABLE runs; --" = "x\'; DROP TABLE runs; --"',
        'config.a."k\'; DROP TABLE runs; --" < 4',
        'metrics."k\'; DROP TABLE runs; --".last < 4',
        'tags:"x\'; DROP TABLE runs; --*"',
        '"x\'; DROP TABLE runs; --"',
    ],
)
def test_what_a_filter_says_never_becomes_sql(text: str, store: Store) -> None:
    for statement, _ in _texts_in(text, condition_of):
        assert "DROP" not in statement
        # Of the filter's own numbers none is there either.
        assert " 4" not in statement
    before = len(_found(store, RunQuery()))
    _found(store, RunQuery(condition=condition_of(text)))
    assert len(_found(store, RunQuery())) == before == len(RUNS)


def test_a_token_that_nobody_made_is_refused(store: Store) -> None:
    query = RunQuery(order=order_of("created_at, name"))
    for keys in ((), (1, "a", 2), ("a", "a"), (1, 2)):
        with pytest.raises(InvalidRequest, match="page_token"):
            store.find_runs(query, RunPlace("r", 1, keys), 10)


def test_pages_stay_as_they_are_while_runs_arrive(postgresql: PostgreSQL, tmp_path: Any) -> None:
    for opened in (sqlite_store(tmp_path), postgres_store(postgresql)):
        with opened as store:
            source = random.Random(1)

            def log(number: int, value: float, store: Store = store) -> None:
                run = f"n{number:03}"
                store.flush([write(1, start("e"), run=run), write(2, points([1], [value]), run=run)])

            for number in range(0, 60, 2):
                log(number, float(number % 7))
            query = RunQuery("e", order=order_of("metrics.m desc"))
            listed: list[tuple[float, str]] = []
            after = None
            number = 1
            while page := store.find_runs(query, after, 7)[0]:
                listed += [(-float(one.place.keys[0] or 0), one.record.run_id) for one in page]
                after = page[-1].place
                for _ in range(3):
                    log(number, float(source.randint(0, 7)))
                    number += 2
            ids = [run for _, run in listed]
            assert len(set(ids)) == len(ids)
            newest_first = sorted(listed, key=itemgetter(1), reverse=True)
            assert listed == sorted(newest_first, key=itemgetter(0)), "all were created in the same millisecond"
            assert {f"n{even:03}" for even in range(0, 60, 2)} <= set(ids)


def test_metrics_come_with_the_runs_in_the_order_asked_for(postgresql: PostgreSQL, tmp_path: Any) -> None:
    for opened in (sqlite_store(tmp_path), postgres_store(postgresql)):
        with opened as store:
            store.flush(
                [
                    write(1, start("e"), run="one"),
                    write(2, points([1, 2], [3.0, 1.0], name="b"), run="one"),
                    write(3, points([1], [9.0], name="a"), run="one"),
                    write(4, complete({"a": 0.5}), run="one"),
                    write(1, start("e"), run="two"),
                ]
            )
            found, metrics = store.find_runs(RunQuery("e"), None, 10, ["b", "a", "never"])
            assert [one.record.run_id for one in found] == ["two", "one"]
            told = [(metric.name, metric.totals.count, metric.final) for metric in metrics["one"]]
            assert told == [("b", 2, None), ("a", 1, 0.5)]
            assert metrics["two"] == []
            listed, _ = store.list_metrics("e", "", "", 10)
            assert [(one.name, one.run_count) for one in listed] == [("a", 1), ("b", 1)]
            assert [one.name for one in store.list_metrics("", "b", "", 10)[0]] == ["b"]
            assert store.list_metrics("e", "", "b", 10)[0] == []
