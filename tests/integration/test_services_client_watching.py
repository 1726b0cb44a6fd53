"""watch_runs of both clients: against a real embedded server, and against one that fails in every way."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from examples.embedded import embedded_server
from tests.both_clients import KINDS, Caller, calling
from tests.grpc_front import Front, running_front
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as messages
from tracker.v1.resources_pb2 import RUN_STATUS_COMPLETED, RUN_STATUS_RUNNING
from tracker_client import errors
from tracker_client.client import TrackerClient
from tracker_server import tokens
from tracker_server.errors import ShuttingDown, TooManyWatchers


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of an embedded server."""
    with embedded_server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Both clients, one after the other."""
    return str(request.param)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with running_front() as front:
        front.watches.answers = [messages.WatchRunsResponse(revision="first")]
        yield front


class Watched:
    """A watch of either client, answer by answer."""

    def __init__(self, caller: Caller, **options: Any) -> None:
        self._sync = isinstance(caller.client, TrackerClient)
        self._answers: Any = caller.client.watch_runs(**options)

    async def next(self) -> messages.WatchRunsResponse:
        """The next answer."""
        async with asyncio.timeout(20):
            answer = await (asyncio.to_thread(next, self._answers) if self._sync else anext(self._answers))
        assert isinstance(answer, messages.WatchRunsResponse)
        return answer

    async def until(self, count: int) -> list[tuple[str, int]]:
        """Run and status of so many updates."""
        found: list[tuple[str, int]] = []
        while len(found) < count:
            found += [(update.run.run_id, update.run.status) for update in (await self.next()).updates]
        return found

    async def leave(self) -> None:
        """Leaves the loop."""
        if self._sync:
            await asyncio.to_thread(self._answers.close)
        else:
            await self._answers.aclose()


async def test_runs_are_given_as_they_change(kind: str, address: str) -> None:
    experiment, run = f"e-{uuid.uuid4()}", f"x-{uuid.uuid4()}"
    async with calling(kind, address) as caller:
        await caller.call("start_run", messages.StartRunRequest(run_id=run, experiment_id=experiment))
        watched = Watched(caller, experiment_id=experiment, snapshot=True, metrics="loss")
        assert await watched.until(1) == [(run, RUN_STATUS_RUNNING)]
        await caller.call("log_metric", messages.LogMetricRequest(run_id=run, name="loss", value=0.5))
        await caller.call("log_metric", messages.LogMetricRequest(run_id=run, name="other", value=0.5))
        await caller.call("run_completed", messages.RunCompletedRequest(run_id=run, status=RUN_STATUS_COMPLETED))
        while True:
            answer = await watched.next()
            if [update.run.status for update in answer.updates] == [RUN_STATUS_COMPLETED]:
                break
        assert [metric.name for metric in answer.updates[0].metrics] == ["loss"]
        await watched.leave()
        await caller.call("update_run", messages.UpdateRunRequest(run_id=run, changes=messages.RunChanges(notes="n")))
        again = Watched(caller, experiment_id=experiment, revision=answer.revision)
        assert [update.run.notes for update in (await again.next()).updates] == ["n"]
        await again.leave()


async def test_a_lost_stream_goes_on_after_the_last_answer(kind: str, front: Front) -> None:
    asked = messages.WatchRunsRequest(run_ids=["run"], snapshot=True, max_metrics=-1)
    seen = tokens.watch_token(internal.WatchToken(revisions=[1], request_hash=tokens.watch_hash(asked)))
    front.watches.answers = [messages.WatchRunsResponse(revision=seen)]
    async with calling(kind, front.address) as caller:
        front.watches.error = ShuttingDown()
        watched = Watched(caller, run_ids="run", snapshot=True, max_metrics=-1)
        await watched.next()
        front.watches.answers = [messages.WatchRunsResponse(revision="second")]
        front.watches.error = None
        assert (await watched.next()).revision == "second"
        await watched.leave()
    first, second = front.watches.requests
    assert first == asked
    asked.revision = seen
    assert second == asked


async def test_who_leaves_the_loop_frees_the_server(kind: str, front: Front) -> None:
    async with calling(kind, front.address) as caller:
        watched = Watched(caller)
        await watched.next()
        assert front.watches.open == 1
        await watched.leave()
        async with asyncio.timeout(10):
            while front.watches.open:  # noqa: ASYNC110  # the count has no event
                await asyncio.sleep(0.01)


async def test_what_cannot_be_watched_is_raised_at_once(kind: str, front: Front) -> None:
    async with calling(kind, front.address) as caller:
        with pytest.raises(errors.InvalidRequest) as caught:
            await Watched(caller, revision="nonsense").next()
    assert [field for field, _ in caught.value.violations] == ["revision"]


async def test_it_gives_up_after_so_long_without_an_answer(kind: str, front: Front) -> None:
    front.watches.answers = []
    front.watches.error = TooManyWatchers()
    async with calling(kind, front.address) as caller:
        began = time.monotonic()
        with pytest.raises(errors.Overloaded):
            await Watched(caller, timeout=1).next()
        assert time.monotonic() - began < 5


async def test_closing_the_client_ends_a_watch(kind: str, front: Front) -> None:
    async with calling(kind, front.address) as caller:
        watched = Watched(caller)
        await watched.next()
        waiting = asyncio.create_task(watched.next())
        await asyncio.sleep(0.05)
        await caller.call("close")
        with pytest.raises(errors.ClientClosed):
            await waiting
