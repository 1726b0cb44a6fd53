"""Sets of sequence numbers: the same as Python's own sets, whatever the order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_server.model.ranges import EMPTY, Ranges

numbers = st.lists(st.integers(0, 60) | st.sampled_from([2**62, 2**63 - 2, 2**63 - 1]), max_size=40)


def members(ranges: Ranges, candidates: set[int]) -> set[int]:
    return {number for number in candidates if number in ranges}


def assert_canonical(ranges: Ranges) -> None:
    for (first, last), (following, _) in zip(ranges.pairs, ranges.pairs[1:], strict=False):
        assert first <= last
        assert last + 1 < following
    if ranges.pairs:
        assert ranges.pairs[-1][0] <= ranges.pairs[-1][1]


@given(numbers, numbers, numbers)
def test_a_set_is_what_pythons_own_set_is(added: list[int], removed: list[int], again: list[int]) -> None:
    ranges = EMPTY.add(added).remove(removed).add(again)
    expected = (set(added) - set(removed)) | set(again)
    assert_canonical(ranges)
    assert members(ranges, {*added, *removed, *again, *range(62)}) == expected
    assert len(ranges) == len(expected)
    assert sum(last - first + 1 for first, last in ranges) == len(expected)
    assert ranges.highest == max(expected, default=0)


@given(numbers, st.randoms())
def test_order_and_repetition_mean_nothing(added: list[int], random: object) -> None:
    shuffled = sorted([*added, *added[::2]], key=lambda _: random.random())  # type: ignore[attr-defined]
    one_by_one = EMPTY
    for number in shuffled:
        one_by_one = one_by_one.add([number])
    assert one_by_one == EMPTY.add(added)


@given(numbers)
def test_text_comes_back_as_the_same_set(added: list[int]) -> None:
    ranges = EMPTY.add(added)
    assert Ranges.parse(str(ranges)) == ranges


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(0, 45))
def test_missing_is_what_is_not_there(added: list[int], last: int) -> None:
    missing = EMPTY.add(added).missing(last)
    assert_canonical(missing)
    assert members(missing, set(range(60))) == set(range(1, last + 1)) - set(added)


def test_missing_of_a_far_sequence_takes_no_time() -> None:
    assert EMPTY.add([1, 3]).missing(2**63 - 1).pairs == ((2, 2), (4, 2**63 - 1))


def test_no_gap_costs_one_pair() -> None:
    ranges = EMPTY
    for number in range(1, 1001):
        ranges = ranges.add([number])
    assert str(ranges) == "1-1000"


def test_text_of_the_empty_set_and_of_single_numbers() -> None:
    assert str(EMPTY) == ""
    assert Ranges.parse("") == EMPTY
    assert str(EMPTY.add([42, 1, 2, 3])) == "1-3,42"


@pytest.mark.parametrize("text", ["x", "1-", "-", "1,,2", "1-2-3", "1.5", ","])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Ranges.parse(text)
