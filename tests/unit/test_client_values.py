"""What training code has at hand becomes numbers, and what is none is told in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tracker_client.values import clean_metrics, clean_step, clean_time, halves, number
from tracker_server.limits import MAX_TIME_MS, MIN_TIME_MS


class _Tensor:
    """As PyTorch's, as far as one asks it for its number."""

    def __init__(self, value: object, shape: tuple[int, ...] = ()) -> None:
        self._value, self.shape = value, shape

    def item(self) -> object:
        if self.shape not in ((), (1,)):
            raise RuntimeError("a Tensor with 3 elements cannot be converted to Scalar")
        return self._value


class _Hostile:
    def __float__(self) -> float:
        raise RuntimeError("no")

    def __index__(self) -> int:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.int64(-7), -7.0),
        (np.bool_(True), 1.0),
        (np.array(2.5), 2.5),
        (np.array([2.5]), 2.5),
        (_Tensor(1.5), 1.5),
        (_Tensor(3, (1,)), 3.0),
        (Decimal("0.1"), 0.1),
        (Fraction(1, 4), 0.25),
        (10**400, math.inf),
        (-(10**400), -math.inf),
        (Fraction(10**400), math.inf),
        (float("-inf"), -math.inf),
    ],
)
def test_numbers_of_all_kinds(value: object, expected: float) -> None:
    assert number(value) == expected
    assert type(number(value)) is float


def test_nan_and_negative_zero_stay() -> None:
    assert math.isnan(number(np.float16("nan")))
    assert math.copysign(1, number(np.array(-0.0))) == -1


_NUMBER = "a metric's value is a number"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.5", f"'0.5' is of type str; {_NUMBER}"),
        (b"1", f"b'1' is of type bytes; {_NUMBER}"),
        (bytearray(b"1"), f"bytearray(b'1') is of type bytearray; {_NUMBER}"),
        (np.str_("1"), f"np.str_('1') is of type str_; {_NUMBER}"),
        (np.array("1"), f"array('1', dtype='<U1') is of type ndarray; {_NUMBER}"),
        (None, f"None is of type NoneType; {_NUMBER}"),
        ([1.0], f"[1.0] is of type list; {_NUMBER}"),
        (object, f"<class 'object'> is of type type; {_NUMBER}"),
        ("x" * 100, f"'{'x' * 59}… is of type str; {_NUMBER}"),
        (_Hostile(), f"something is of type _Hostile; {_NUMBER}"),
        (1 + 2j, "(1+2j) is complex; log its parts"),
        (np.complex64(1 + 2j), "(1+2j) is complex; log its parts"),
        (np.zeros((2, 3)), "a ndarray of shape (2, 3) is no single number"),
        (_Tensor(0, (3,)), "a _Tensor of shape (3,) is no single number"),
        (np.array([]), "a ndarray of shape (0,) is no single number"),
    ],
)
def test_what_is_no_number_is_told(value: object, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        number(value)
    assert str(caught.value) == message


def test_nested_mappings_get_names_joined_by_slashes() -> None:
    metrics = {"train": {"loss": 1, "by class": {"cat": np.float32(2), 7: 3}}, "lr": _Tensor(0.1), "none": {}}
    numbers = {"train/loss": 1.0, "train/by class/cat": 2.0, "train/by class/7": 3.0, "lr": 0.1}
    assert clean_metrics(metrics) == (numbers, {})


def test_the_good_ones_are_taken_and_the_others_named() -> None:
    numbers, problems = clean_metrics({"good": 1, "bad": "x", "": 2, "inner": {"bad\n": 3, "also": [1]}})
    assert numbers == {"good": 1.0}
    assert problems == {
        "bad": f"metric 'bad': 'x' is of type str; {_NUMBER}",
        "": "the metric name '' has 0 characters; 1 to 256 are right",
        "inner/bad\n": "the metric name 'inner/bad\\n' has control characters",
        "inner/also": f"metric 'inner/also': [1] is of type list; {_NUMBER}",
    }


def test_what_is_no_mapping_is_told() -> None:
    assert clean_metrics([("a", 1)]) == ({}, {"": "log() was given a list; it takes a dict of metric names to numbers"})


def test_a_mapping_that_contains_itself_comes_to_an_end() -> None:
    endless: dict[str, Any] = {"a": 1.0}
    endless["self"], endless["again"] = endless, endless
    numbers, problems = clean_metrics(endless)
    assert numbers == {"a": 1.0}
    assert set(problems) == {"self", "again"}


def test_a_mapping_that_raises_is_told() -> None:
    class Broken(Mapping[str, float]):
        def __getitem__(self, key: str) -> float:
            raise RuntimeError("gone")

        def __iter__(self) -> Iterator[str]:
            return iter(["a"])

        def __len__(self) -> int:
            return 1

    assert clean_metrics(Broken()) == ({}, {"": "log() was given a Broken that cannot be read: gone"})


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (5, 5),
        (True, 1),
        (3.0, 3),
        (np.int32(7), 7),
        (np.array(8), 8),
        (_Tensor(9), 9),
        (_Tensor(2.0), 2),
        (-(2**63), -(2**63)),
    ],
)
def test_steps_of_all_kinds(step: object, expected: int) -> None:
    assert clean_step(step) == expected
    assert type(clean_step(step)) is int


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (1.5, "step is 1.5 of type float; it must be a whole number"),
        ("1", "step is '1' of type str; it must be a whole number"),
        (math.nan, "step is nan of type float; it must be a whole number"),
        (math.inf, "step is inf of type float; it must be a whole number"),
        (int, "step is <class 'int'> of type type; it must be a whole number"),
        (_Hostile(), "step is something of type _Hostile; it must be a whole number"),
        (np.array([1, 2]), "step is array([1, 2]) of type ndarray; it must be a whole number"),
        (2**63, f"step is {2**63}; it must fit into 64 bits"),
        pytest.param(10**5000, "step is something; it must fit into 64 bits", id="longer than Python prints"),
    ],
)
def test_what_is_no_step_is_told(step: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        clean_step(step)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (0, 0),
        (1_700_000_000.123, 1_700_000_000_123),
        (1_700_000_000.001, 1_700_000_000_001),
        (-1.5, -1500),
        (np.float64(2.25), 2250),
        (datetime(2024, 1, 1, tzinfo=UTC), 1_704_067_200_000),
        (datetime(2024, 1, 1, 2, microsecond=7000, tzinfo=timezone(timedelta(hours=2))), 1_704_067_200_007),
        (datetime(1, 1, 1, tzinfo=UTC), MIN_TIME_MS),
        (MAX_TIME_MS / 1000, MAX_TIME_MS),
    ],
)
def test_times_of_all_kinds(time: object, expected: int) -> None:
    assert clean_time(time) == expected


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (datetime(2024, 1, 1), "time is 2024-01-01T00:00:00 without a time zone; give it one"),  # noqa: DTZ001 - that is the point
        ("now", "time is 'now'; it must be seconds since 1970, or a datetime"),
        (math.nan, "time is nan; it must be seconds since 1970, or a datetime"),
        (math.inf, "time is inf; it must be seconds since 1970, or a datetime"),
        (1_700_000_000_000, "time is 1700000000000; it must be within the years 1 to 9999, in seconds"),
    ],
)
def test_what_is_no_time_is_told(time: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        clean_time(time)
    assert str(caught.value) == message


def test_a_row_in_two_halves_is_whole() -> None:
    row = {str(index): float(index) for index in range(7)}
    first, second = halves(row)
    assert {**first, **second} == row
    assert len(first) == 3
