"""What `tracker tail` and `tracker runs --watch` do with a stream of changes that breaks, or that no server gives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import pytest

from tracker.v1.tracker_service_pb2 import WatchRunsResponse
from tracker_client.cli.watching import Patience, answers, moments
from tracker_client.client import TrackerClient
from tracker_client.errors import InvalidRequest, NotFound, Overloaded, TrackerError, Unavailable, Unimplemented

AWAY = Unavailable("away", code="UNAVAILABLE")
TOO_MANY = Overloaded("too many", code="RESOURCE_EXHAUSTED", reason="TOO_MANY_WATCHERS", retry_after=5.0)
OTHER_DATABASE = InvalidRequest("wrong", reason="INVALID_REQUEST", violations=(("revision", "is of another database"),))


class _Client:
    """Gives one stream after the other: revisions, and at last an error."""

    def __init__(self, *streams: tuple[list[str], TrackerError]) -> None:
        self._streams = list(streams)
        self.asked: list[dict[str, Any]] = []

    def watch_runs(self, **asked: Any) -> Iterator[WatchRunsResponse]:
        self.asked.append(asked)
        revisions, error = self._streams.pop(0)
        for revision in revisions:
            yield WatchRunsResponse(revision=revision)
        raise error


def _answers(client: _Client, said: list[str], **asked: Any) -> Iterator[WatchRunsResponse]:
    return answers(cast(TrackerClient, client), Patience(said.append), **asked)


def _moments(client: _Client) -> Iterator[None]:
    return moments(cast(TrackerClient, client), "run", 0.0, Patience(lambda _: None))


def test_after_an_error_it_goes_on_from_the_last_revision_and_says_once_that_the_server_is_away() -> None:
    client = _Client((["a", "b"], AWAY), ([], AWAY), (["c"], AWAY), ([], NotFound("gone", code="NOT_FOUND")))
    said: list[str] = []
    given: list[str] = []
    with pytest.raises(NotFound):
        given.extend(answer.revision for answer in _answers(client, said, experiment_id="e"))
    assert given == ["a", "b", "c"]
    assert [asked["revision"] for asked in client.asked] == ["", "b", "b", "c"]
    assert {asked["experiment_id"] for asked in client.asked} == {"e"}
    assert said == ["the server does not answer (away); waiting for it"] * 2, "once each time that it was away"


def test_with_a_revision_that_nobody_knows_any_more_it_begins_anew() -> None:
    client = _Client((["a"], AWAY), ([], OTHER_DATABASE), (["b"], AWAY))
    assert [answer.revision for answer in islice(_answers(client, []), 2)] == ["a", "b"]
    assert [asked["revision"] for asked in client.asked] == ["", "a", ""]


def test_a_request_that_is_wrong_from_the_start_is_not_repeated() -> None:
    client = _Client(([], OTHER_DATABASE))
    with pytest.raises(InvalidRequest):
        next(_answers(client, []))


@pytest.mark.parametrize("error", [Unimplemented("unknown", code="UNIMPLEMENTED"), TOO_MANY])
def test_a_server_that_cannot_tell_is_looked_at_each_time(error: TrackerError) -> None:
    client = _Client((["a"], error))
    assert len(list(islice(_moments(client), 5))) == 5
    assert len(client.asked) == 1


def test_each_answer_is_a_moment_to_look_and_the_first_comes_when_the_server_watches() -> None:
    client = _Client((["a", "b"], AWAY), (["c"], NotFound("gone", code="NOT_FOUND")))
    looks: list[None] = []
    with pytest.raises(NotFound):
        looks.extend(_moments(client))
    assert len(looks) == 3
    assert client.asked[0]["run_ids"] == ["run"]
