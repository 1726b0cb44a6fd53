"""Tells the cache what a commit has made old: at once for the first, then at most once a second and scope."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from typing import Final, Protocol

import structlog

from tracker_server.ports import Cache

INTERVAL_SECONDS: Final = 1.0
"""Between two bumps of one scope: so old a cached answer may be."""
_WAIT_SECONDS: Final = 0.3
"""How long a commit waits for its bumps; after that they go on beside it."""
_FIRST_RETRY_SECONDS: Final = 0.1
_LONGEST_RETRY_SECONDS: Final = 2.0
_CLOSE_SECONDS: Final = 1.0
_log = structlog.get_logger(__name__)


class Timer(Protocol):
    """What call_later gives."""

    def cancel(self) -> None:
        """Takes it back."""


class Clock(Protocol):
    """Time, as an event loop has it."""

    def time(self) -> float:
        """Seconds since whenever."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Calls back after so many seconds."""


class Invalidator:
    """Owes each committed scope a bump that begins after the commit, and pays within a second.

    A bump that fails leaves the cache in doubt (it may have been restarted from an old copy, or other bumps may have been
    lost with it), so before anything else a new epoch is set, which makes up for all the bumps owed until then.
    What is still owed when the process dies is made up for by the next consumer's takeover.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        wait_seconds: float = _WAIT_SECONDS,
        clock: Clock | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        """The clock is the running event loop's unless given."""
        self._cache = cache
        self._interval = interval_seconds
        self._wait = wait_seconds
        self._clock: Clock = clock or asyncio.get_running_loop()
        self._random = random
        self._due: dict[str, float] = {}
        """Scopes that are owed a bump, and when."""
        self._bumped: dict[str, float] = {}
        """When the last bump of a scope began, oldest first; those older than the interval are dropped."""
        self._epoch_owed = False
        self._failures = 0
        self._retry_at = float("-inf")
        self._timer: Timer | None = None
        self._timer_at = float("inf")
        self._work: asyncio.Task[None] | None = None

    @property
    def owes(self) -> bool:
        """Whether something is still to be told to the cache."""
        return self._epoch_owed or bool(self._due)

    async def committed(self, scopes: Collection[str]) -> None:
        """Call after a commit, before its acknowledgement. Waits for the bumps that are due now, 0.3 s at most."""
        now = self._clock.time()
        earliest = float("inf")
        for scope in scopes:
            due = self._due.get(scope)
            if due is None:
                last = self._bumped.get(scope)
                due = now if last is None else max(now, last + self._interval)
                self._due[scope] = due
            earliest = min(earliest, due)
        if now < self._retry_at:
            return  # the timer is set
        if earliest <= now:
            await self._attempt()
        elif earliest < self._timer_at:
            self._set_timer(earliest)

    async def takeover(self) -> None:
        """Call at the start, and on acquiring partitions: whoever had them may have died owing bumps.

        Sets a new epoch; waits 0.3 s at most, and goes on trying after that.
        """
        self._epoch_owed = True
        await self._attempt()

    async def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Pays what is owed, within so many seconds, and ends. What is owed still is logged, never raised."""
        try:
            async with asyncio.timeout(seconds):
                while self.owes or self._working:
                    for scope in self._due:
                        self._due[scope] = float("-inf")
                    await asyncio.shield(self._start())
                    if self.owes:
                        await asyncio.sleep(_FIRST_RETRY_SECONDS)
        except TimeoutError:
            _log.warning("bumps still owed at the end; the next consumer sets a new epoch", scopes=len(self._due))
        finally:
            self._clear_timer()
            if self._work is not None:
                self._work.cancel()
                await asyncio.wait([self._work])

    # ------------------------------------------------------------ paying

    @property
    def _working(self) -> bool:
        return self._work is not None and not self._work.done()

    async def _attempt(self) -> None:
        """Bounded wait; a task of its own, since a cancelled caller must not lose a bump half-way."""
        await asyncio.wait([self._start()], timeout=self._wait)

    def _start(self) -> asyncio.Task[None]:
        if self._work is None or self._work.done():
            self._clear_timer()
            self._work = asyncio.create_task(self._pay(), name="cache bumps")
        return self._work

    async def _pay(self) -> None:
        """Pays until nothing is due; then leaves a timer for what will be."""
        while True:
            now = self._clock.time()
            if self._epoch_owed:
                paid = await self._pay_epoch(now)
            else:
                due = [scope for scope, at in self._due.items() if at <= now]
                if not due:
                    break
                paid = await self._pay_bumps(due, now)
            if not paid:
                self._failures += 1
                longest = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(self._failures - 1, 10))
                self._retry_at = self._clock.time() + longest * (0.5 + self._random() / 2)
                self._set_timer(self._retry_at)
                return
            self._failures = 0
            self._retry_at = float("-inf")
        self._forget(now)
        if self._due:
            self._set_timer(min(self._due.values()))

    async def _pay_epoch(self, now: float) -> bool:
        # What comes in from here on is not covered by this epoch.
        covered, self._due = self._due, {}
        self._epoch_owed = False
        paid = False
        try:
            paid = await self._cache.new_epoch()
        except Exception:  # noqa: BLE001 - the port says "never": still owed, whatever it was
            _log.exception("setting a new cache epoch failed")
        finally:
            if paid:
                self._mark(covered, now)
            else:
                self._epoch_owed = True
                self._due = covered | self._due
        return paid

    async def _pay_bumps(self, due: Collection[str], now: float) -> bool:
        for scope in due:
            del self._due[scope]
        self._mark(due, now)
        failed: Collection[str] = due
        try:
            failed = await self._cache.bump(due)
        except Exception:  # noqa: BLE001 - the port says "never": still owed, whatever it was
            _log.exception("bumping cache generations failed")
        finally:
            if failed:
                self._epoch_owed = True
                self._due |= dict.fromkeys(failed, now)
        return not failed

    def _mark(self, scopes: Collection[str], now: float) -> None:
        for scope in scopes:
            self._bumped.pop(scope, None)
            self._bumped[scope] = now

    def _forget(self, now: float) -> None:
        """Drops what bounds nothing any more. The oldest come first."""
        passed = []
        for scope, at in self._bumped.items():
            if at + self._interval > now:
                break
            passed.append(scope)
        for scope in passed:
            del self._bumped[scope]

    # ------------------------------------------------------------ time

    def _set_timer(self, at: float) -> None:
        self._clear_timer()
        self._timer_at = at
        self._timer = self._clock.call_later(max(0.0, at - self._clock.time()), self._on_time)

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._timer_at = float("inf")

    def _on_time(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        self._start()
