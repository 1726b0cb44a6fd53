"""Watching runs at the terminal: for as long as it takes, and through a server that is away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from tracker.v1.tracker_service_pb2 import WatchRunsResponse
from tracker_client.client import TrackerClient
from tracker_client.errors import InvalidRequest, Overloaded, TrackerError, Unimplemented

_NO_METRICS: Final = -1


class Patience:
    """Says once that a server is away, and again only after it was back."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """say: prints a message for people."""
        self._say = say
        self._waiting = False

    def failed(self, error: TrackerError) -> None:
        """A call failed. Raises the error where trying again is of no use."""
        if not error.retryable:
            raise error
        if not self._waiting:
            self._say(f"the server does not answer ({error.message}); waiting for it")
        self._waiting = True

    def answered(self) -> None:
        """A call was answered."""
        self._waiting = False


def answers(client: TrackerClient, patience: Patience, **asked: Any) -> Iterator[WatchRunsResponse]:
    """What client.watch_runs gives, asked for so. Outlives a server that is away for however long.

    Where the server no longer knows what was seen, as after a backup was restored, it begins anew. Raises Unimplemented
    where the server is too old, Overloaded where it has too many watchers, and other TrackerErrors.
    """
    revision = ""
    while True:
        try:
            for answer in client.watch_runs(**asked, revision=revision):
                revision = answer.revision
                patience.answered()
                yield answer
        except InvalidRequest as error:
            if not revision or all(field != "revision" for field, _ in error.violations):
                raise
            revision = ""
        except Overloaded:
            raise
        except TrackerError as error:
            patience.failed(error)


def moments(client: TrackerClient, run_id: str, interval: float, patience: Patience) -> Iterator[None]:
    """When to look at a run: whenever it may have changed. For ever: leave the loop to end it. Raises TrackerError.

    interval: seconds between two looks, at least. Where the server cannot tell, a look is due each time. The first one
    is due when the server has begun to watch; so a change is either seen by that look or told of.
    """
    try:
        for _ in answers(client, patience, run_ids=[run_id], max_metrics=_NO_METRICS):
            # Also when nothing is said to have changed, which is twice a minute.
            yield
            time.sleep(interval)
    except (Unimplemented, Overloaded):
        while True:
            yield
            time.sleep(interval)
