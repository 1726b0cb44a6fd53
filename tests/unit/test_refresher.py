"""Stale totals are refreshed one short piece at a time, each run once however often it is named, until all are."""

import asyncio
from collections import Counter

import pytest

from tracker_server.consumer.refresher import Refresher
from tracker_server.errors import StoreUnavailable


class Work:
    """So many pieces of work for each run."""

    def __init__(self, **pieces: int) -> None:
        self.left = Counter(pieces)
        self.done: list[str] = []
        self.at_once = 0
        self.errors: list[Exception] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def refresh(self, run_id: str) -> bool:
        """One piece."""
        self.at_once += 1
        assert self.at_once == 1
        await self.may_go_on.wait()
        self.at_once -= 1
        if self.errors:
            raise self.errors.pop()
        self.done.append(run_id)
        self.left[run_id] -= 1
        return self.left[run_id] > 0


async def settled(refresher: Refresher) -> None:
    """Returns when nothing is left to do."""
    assert refresher._task is not None
    await asyncio.wait_for(refresher._task, 20)


async def test_runs_take_turns_piece_by_piece() -> None:
    work = Work(a=3, b=1)
    refresher = Refresher(work.refresh)
    refresher.add(["a", "b"])
    refresher.add(["b", "a"])
    await settled(refresher)
    assert work.done == ["a", "b", "a", "a"]
    refresher.add(["c"])
    await settled(refresher)
    assert work.done[4:] == ["c"]


async def test_what_the_database_cannot_do_now_is_done_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker_server.consumer.refresher._WAIT_SECONDS", 0.01)
    work = Work(a=1)
    work.errors = [StoreUnavailable("away"), StoreUnavailable("away")]
    refresher = Refresher(work.refresh)
    refresher.add(["a"])
    await settled(refresher)
    assert work.done == ["a"]


async def test_a_run_that_cannot_be_refreshed_does_not_keep_others_from_it() -> None:
    work = Work(a=1, b=1)
    work.errors = [RuntimeError("broken")]
    refresher = Refresher(work.refresh)
    refresher.add(["a", "b"])
    await settled(refresher)
    assert work.done == ["b"]


async def test_closing_waits_for_the_piece_under_way_and_begins_no_other() -> None:
    work = Work(a=5)
    work.may_go_on.clear()
    refresher = Refresher(work.refresh)
    refresher.add(["a"])
    await asyncio.sleep(0)
    closing = asyncio.create_task(refresher.close())
    await asyncio.sleep(0)
    assert not closing.done()
    work.may_go_on.set()
    await closing
    assert work.done == ["a"]
    refresher.add(["b"])
    assert refresher._task is None
