"""Values as the `tracker` command prints them, for people and for programs."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.v1.resources_pb2 import RunStatus
from tracker_client.cli import plain, texts
from tracker_client.cli.options import StatusName, status_of


@pytest.mark.parametrize(
    ("value", "shown", "exact"),
    [
        (0.1, "0.1", "0.1"),
        (1 / 3, "0.333333", "0.3333333333333333"),
        (1234567.0, "1.23457e+06", "1234567.0"),
        (-0.0, "-0", "-0.0"),
        (5e-324, "4.94066e-324", "5e-324"),
        (math.nan, "NaN", "NaN"),
        (math.inf, "Inf", "Infinity"),
        (-math.inf, "-Inf", "-Infinity"),
    ],
)
def test_numbers(value: float, shown: str, exact: str) -> None:
    assert texts.number(value) == shown
    assert texts.exact(value) == exact


@given(st.floats())
def test_exact_numbers_come_back(value: float) -> None:
    assert math.isnan(value) if texts.exact(value) == "NaN" else float(texts.exact(value)).hex() == value.hex()
    json.dumps(plain.real(value), allow_nan=False)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3_600, "1 h"),
        (3_661, "1 h 1 min"),
        (86_400 + 59, "1 d"),
        (90_000, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert texts.duration(seconds) == shown


def test_times() -> None:
    when = datetime(2026, 11, 25, 7, 6, 5, 123_456, UTC)
    assert texts.rfc3339(when) == "2026-11-25T07:06:05.123Z"
    assert texts.local(when) == when.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert texts.instant_of(1_700_000_000_123) == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
    assert texts.instant_of(2**63 - 1) is None


@pytest.mark.parametrize("when", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)])
def test_the_ends_of_time_are_no_error(when: datetime) -> None:
    assert texts.local(when)


@given(st.text())
def test_no_text_controls_the_terminal(text: str) -> None:
    shown = texts.one_line(text)
    assert shown.isprintable()
    assert all(part.isprintable() for part in texts.visible(text).split("\n"))


@given(st.text())
def test_a_field_is_one_field_and_comes_back(text: str) -> None:
    field = texts.field(text)
    assert not set(field) & {*map(chr, range(32)), "\x7f"}
    # Python's own escapes; those that are no control characters stay as they are.
    back = field.encode("latin-1", "backslashreplace").decode("unicode_escape")
    assert back == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@pytest.mark.parametrize(
    ("text", "width", "shown"), [("short", 10, "short"), ("a longer one", 8, "a longe…"), ("x\ny", 0, "x⏎y")]
)
def test_lines_are_cut(text: str, width: int, shown: str) -> None:
    assert texts.one_line(text, width) == shown


def test_of_paths_the_end_stays() -> None:
    assert texts.end_of("/data/logs/run-1/metrics.csv", 20) == "…s/run-1/metrics.csv"
    assert texts.end_of("metrics.csv", 20) == "metrics.csv"


@pytest.mark.parametrize(
    ("config", "flat"),
    [
        ({}, {}),
        ({"a": {"b": {"c": 1}}, "d": [1, {"e": 2}]}, {"a.b.c": 1, "d": [1, {"e": 2}]}),
        ({"empty": {}, "full": {"x": None}}, {"empty": {}, "full.x": None}),
    ],
)
def test_configs_are_flattened(config: dict[str, Any], flat: dict[str, Any]) -> None:
    assert texts.flat(config) == flat


@pytest.mark.parametrize(
    ("value", "shown"),
    [("text", "text"), (4, "4"), (4.0, "4.0"), (True, "true"), (None, "null"), ([1, "ä"], '[1, "ä"]'), ({}, "{}")],
)
def test_literals_keep_their_type(value: object, shown: str) -> None:
    assert texts.literal(value) == shown


def test_plural() -> None:
    assert [texts.plural(many, "run") for many in (0, 1, 2, 12_345)] == ["0 runs", "1 run", "2 runs", "12,345 runs"]


def test_statuses_are_those_of_the_contract() -> None:
    assert {status_of(name) for name in StatusName} == set(RunStatus.values()) - {0}
    assert all(texts.status(status_of(name)) == name for name in StatusName)
    assert texts.status(RunStatus.ValueType(99)) == "99"
