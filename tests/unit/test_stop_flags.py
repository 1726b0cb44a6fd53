"""Who is told to stop: attempts that the database has heard of, not those that have begun since."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from tracker_server import stop_flags
from tracker_server.errors import StoreUnavailable
from tracker_server.stop_flags import PolledStopFlags


@asynccontextmanager
async def polled(*answers: Mapping[str, int] | Exception) -> AsyncIterator[PolledStopFlags]:
    """Flags that have been given these answers."""
    left, done = list(answers), asyncio.Event()

    async def load() -> Mapping[str, int]:
        if not left:
            done.set()
            await asyncio.Event().wait()
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    flags = PolledStopFlags(load)
    polling = asyncio.create_task(flags.poll())
    await asyncio.wait_for(done.wait(), 20)
    yield flags
    polling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await polling


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_flags, "POLL_SECONDS", 0.0)


async def test_attempts_up_to_the_newest_one_known_are_told_and_newer_ones_are_not() -> None:
    async with polled({"run": 7}) as flags:
        told = {attempt: flags.stop_requested("run", attempt) for attempt in (0, 6, 7, 8, 2**62)}
        assert told == {0: True, 6: True, 7: True, 8: False, 2**62: False}
        assert not flags.stop_requested("other", 0)


async def test_what_was_known_holds_while_the_database_is_away() -> None:
    async with polled({"run": 0}, StoreUnavailable("away"), StoreUnavailable("away")) as flags:
        assert flags.stop_requested("run", 0)


async def test_a_stop_that_was_taken_back_is_forgotten() -> None:
    async with polled({"run": 0}, {}) as flags:
        assert not flags.stop_requested("run", 0)
