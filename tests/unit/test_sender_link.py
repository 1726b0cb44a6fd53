"""How the sender and a server get on: a table of errors, and a clock that the test turns."""

from __future__ import annotations

import pytest

from tracker_client import errors
from tracker_client.errors import TrackerError
from tracker_client.journal.status import Connection
from tracker_client.retry import FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS
from tracker_client.sender.link import AWAITED_PAUSE_SECONDS, DEFECT_TRIES, REFUSED_PAUSE_SECONDS, Link, Verdict


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def link(clock: _Clock) -> Link:
    return Link(clock, chance=lambda: 0.0)


_UNAVAILABLE = errors.Unavailable("UNAVAILABLE: no route", code="UNAVAILABLE")
_FULL = errors.Overloaded("full", code="RESOURCE_EXHAUSTED", reason="QUEUE_FULL", retry_after=2.0)
_INTERNAL = errors.InternalError("a defect", code="INTERNAL", reason="INTERNAL")


def test_nothing_is_known_at_first(link: Link) -> None:
    assert (link.connection, link.message, link.open, link.healthy) == (Connection.UNKNOWN, "", True, True)


@pytest.mark.parametrize(
    ("error", "pause", "connection"),
    [
        (_UNAVAILABLE, FIRST_DELAY_SECONDS, Connection.UNREACHABLE),
        (
            errors.DeadlineExceeded("no answer in time", code="DEADLINE_EXCEEDED"),
            FIRST_DELAY_SECONDS,
            Connection.UNREACHABLE,
        ),
        (TrackerError("the call was ended", code="CANCELLED"), FIRST_DELAY_SECONDS, Connection.UNREACHABLE),
        (_FULL, 2.0, Connection.UNREACHABLE),
        (
            errors.Unauthenticated("which key?", code="UNAUTHENTICATED", reason="UNAUTHENTICATED"),
            REFUSED_PAUSE_SECONDS,
            Connection.REFUSED,
        ),
        (errors.PermissionDenied("no", code="PERMISSION_DENIED"), REFUSED_PAUSE_SECONDS, Connection.REFUSED),
        (errors.Unimplemented("no such call", code="UNIMPLEMENTED"), REFUSED_PAUSE_SECONDS, Connection.REFUSED),
        (errors.NotFound("no such page", code="NOT_FOUND"), REFUSED_PAUSE_SECONDS, Connection.REFUSED),
    ],
)
def test_errors_of_the_moment_pause_and_are_tried_again(
    link: Link, clock: _Clock, error: TrackerError, pause: float, connection: Connection
) -> None:
    assert link.failed(error, 1) is Verdict.AGAIN
    assert link.wait_seconds == pytest.approx(pause)
    assert (link.open, link.healthy) == (False, False)
    assert (link.connection, link.message) == (connection, str(error))
    clock.now += pause + 0.001
    assert (link.open, link.healthy) == (True, False)
    link.succeeded()
    assert (link.connection, link.message, link.healthy) == (Connection.CONNECTED, "", True)


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest("wrong", code="INVALID_ARGUMENT", reason="INVALID_REQUEST"),
        errors.TooLarge("large", code="INVALID_ARGUMENT", reason="REQUEST_TOO_LARGE"),
        errors.FailedPrecondition("no", code="FAILED_PRECONDITION", reason="WRITE_REFUSED"),
    ],
)
def test_a_write_that_can_never_be_taken_is_given_up_at_once_and_holds_nothing_up(
    link: Link, error: TrackerError
) -> None:
    assert link.failed(error, 1) is Verdict.GIVE_UP
    assert link.open
    assert link.healthy


def test_a_defect_of_the_server_is_tried_a_few_times(link: Link, clock: _Clock) -> None:
    for tries in range(1, DEFECT_TRIES):
        assert link.failed(_INTERNAL, tries) is Verdict.AGAIN
        assert 0 < link.wait_seconds <= MAX_DELAY_SECONDS
        clock.now += MAX_DELAY_SECONDS
    assert link.failed(_INTERNAL, DEFECT_TRIES) is Verdict.GIVE_UP


def test_pauses_grow_with_each_outage_and_not_with_each_call_that_it_fails(link: Link, clock: _Clock) -> None:
    pauses = []
    for _ in range(8):
        for _ in range(4):
            link.failed(_UNAVAILABLE, 1)
        pauses.append(link.wait_seconds)
        clock.now += link.wait_seconds
    assert pauses[:3] == pytest.approx([FIRST_DELAY_SECONDS, 2 * FIRST_DELAY_SECONDS, 4 * FIRST_DELAY_SECONDS])
    assert pauses[-1] == pytest.approx(MAX_DELAY_SECONDS)


def test_a_late_success_does_not_cut_short_a_pause_that_the_server_asked_for(link: Link, clock: _Clock) -> None:
    link.failed(_FULL, 1)
    link.succeeded()
    assert link.wait_seconds == pytest.approx(2.0)
    assert link.connection is Connection.CONNECTED
    clock.now += 2.001
    assert link.open
    assert link.healthy


def test_a_shorter_pause_does_not_replace_a_longer_one(link: Link) -> None:
    link.failed(_FULL, 1)
    link.failed(_UNAVAILABLE, 1)
    assert link.wait_seconds == pytest.approx(2.0)


def test_while_somebody_waits_pauses_are_short_but_for_what_the_server_has_asked_for(link: Link, clock: _Clock) -> None:
    for _ in range(8):
        link.failed(_UNAVAILABLE, 1)
        clock.now += link.wait_seconds
    link.failed(_UNAVAILABLE, 1)
    assert link.wait_seconds == pytest.approx(MAX_DELAY_SECONDS)
    link.awaited = True
    assert link.wait_seconds == pytest.approx(AWAITED_PAUSE_SECONDS)
    clock.now += AWAITED_PAUSE_SECONDS
    assert link.open
    link.failed(_FULL, 1)
    assert link.wait_seconds == pytest.approx(2.0)
    clock.now += 2.0
    link.failed(_UNAVAILABLE, 1)
    assert link.wait_seconds == pytest.approx(AWAITED_PAUSE_SECONDS)
    link.awaited = False
    assert link.wait_seconds == pytest.approx(MAX_DELAY_SECONDS)


def test_a_server_that_refuses_us_is_left_alone_even_while_somebody_waits(link: Link) -> None:
    link.awaited = True
    link.failed(errors.PermissionDenied("no", code="PERMISSION_DENIED"), 1)
    assert link.wait_seconds == pytest.approx(REFUSED_PAUSE_SECONDS)
