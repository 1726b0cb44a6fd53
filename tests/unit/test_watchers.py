"""Who wakes watchers, and when; and how notices are kept few."""

from __future__ import annotations

import asyncio

from tracker_server.notices import CoalescedNotices, MemoryChanges
from tracker_server.ports import Revisions
from tracker_server.watchers import Watcher


class Told:
    """ports.ChangeNotices that remembers."""

    def __init__(self) -> None:
        self.notices: list[dict[int, int]] = []

    def send(self, revisions: Revisions) -> None:
        self.notices.append(dict(revisions))


async def test_the_first_notice_goes_at_once_and_what_follows_as_one() -> None:
    told = Told()
    notices = CoalescedNotices(told, interval_seconds=0.05)
    for revision in range(1, 50):
        notices.send({revision % 2: revision})
    assert told.notices == [{1: 1}]
    async with asyncio.timeout(10):
        while len(told.notices) < 2:  # noqa: ASYNC110  # a timer that nobody announces
            await asyncio.sleep(0.005)
    assert told.notices == [{1: 1}, {0: 48, 1: 49}]
    notices.close()
    assert len(told.notices) == 2


async def test_what_is_owed_at_the_end_is_told() -> None:
    told = Told()
    notices = CoalescedNotices(told, interval_seconds=60)
    notices.send({0: 1})
    notices.send({0: 2})
    notices.close()
    assert told.notices == [{0: 1}, {0: 2}]


async def test_no_revisions_are_no_notice() -> None:
    told = Told()
    notices = CoalescedNotices(told)
    notices.send({})
    notices.close()
    assert told.notices == []


async def test_a_watcher_is_woken_only_by_what_it_has_not_seen() -> None:
    watcher = Watcher()
    watcher.seen = (5, 7)
    watcher.tell({0: 5, 1: 6, 9: 99})
    assert not await watcher.changed(0.01)
    watcher.tell({1: 8})
    assert await watcher.changed(10)
    watcher.begin()
    assert not await watcher.changed(0.01)


async def test_within_a_process_notices_go_to_its_server_while_it_listens() -> None:
    heard: list[Revisions] = []
    changes = MemoryChanges()
    changes.send({0: 1})
    await changes.start(heard.append)
    changes.send({0: 2})
    await changes.close()
    changes.send({0: 3})
    assert heard == [{0: 2}]
