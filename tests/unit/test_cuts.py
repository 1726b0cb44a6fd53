"""Which attempts' points are live."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_server.model.cuts import Cuts, live_until, lowered, supersedes_older

attempt_steps = st.lists(st.tuples(st.integers(1, 5), st.integers(-3, 3)), max_size=10)


def cuts_of(pairs: list[tuple[int, int]]) -> Cuts:
    cuts: Cuts = ()
    for attempt, step in pairs:
        cuts = lowered(cuts, attempt, step)
    return cuts


@given(attempt_steps, st.randoms())
def test_a_cut_is_an_attempts_smallest_step_whatever_the_order(pairs: list[tuple[int, int]], random: object) -> None:
    expected = {attempt: min(step for a, step in pairs if a == attempt) for attempt, _ in pairs}
    shuffled = sorted([*pairs, *pairs[::2]], key=lambda _: random.random())  # type: ignore[attr-defined]
    assert cuts_of(shuffled) == cuts_of(pairs) == tuple(sorted(expected.items()))


@given(attempt_steps, attempt_steps, st.integers(0, 6), st.integers(-4, 4))
def test_a_point_is_live_when_its_step_is_below_every_newer_cut(
    series: list[tuple[int, int]], run: list[tuple[int, int]], attempt: int, step: int
) -> None:
    series_cuts, run_cuts = cuts_of(series), cuts_of(run)
    bound = live_until(attempt, series_cuts, run_cuts)
    implicit = attempt == 0 or all(step < cut for newer, cut in series_cuts if newer > attempt)
    explicit = all(step < cut for newer, cut in run_cuts if newer > attempt)
    assert (bound is None or step < bound) == (implicit and explicit)


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [(0, 4), (1, 4), (2, 4), (3, 4), (4, 5), (5, None), (6, None)],
)
def test_explicit_cuts_end_attempt_0_and_implicit_ones_do_not(attempt: int, expected: int | None) -> None:
    assert live_until(attempt, ((3, 6), (5, 5)), ((4, 4),)) == expected
    assert live_until(0, ((3, 6), (5, 5)), ()) is None


def test_no_zig_zag_where_a_newer_attempt_began_earlier() -> None:
    # Attempt 3 went back before attempt 2 began: neither 1 nor 2 has anything from there on.
    cuts = ((1, 0), (2, 10), (3, 5))
    assert [live_until(attempt, cuts, ()) for attempt in (1, 2, 3)] == [5, 5, None]


def test_only_an_older_attempt_can_be_superseded() -> None:
    assert not supersedes_older((), 1)
    assert not supersedes_older(((1, 0),), 1)
    assert not supersedes_older(((2, 0),), 1)
    assert supersedes_older(((1, 0), (2, 5)), 2)
