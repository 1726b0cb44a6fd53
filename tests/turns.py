"""How long a coroutine waits, by the turns and the timers of its event loop: the same on a machine that is busy."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def at_once(call: Coroutine[Any, Any, _T], turns: int = 1) -> _T:
    """What a call gives, or raises, that waits neither for a timer nor for a socket: it ends within so many turns."""
    task = asyncio.create_task(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    return await _ended(task, f"{turns} turns of the loop")


async def within(seconds: float, call: Coroutine[Any, Any, _T], turns: int = 50) -> _T:
    """What a call gives, or raises, that ends within so many seconds.

    When they have passed it still has some turns of the loop: where the machine held both up for longer, its own timers
    are due as well, and are what it went on with.
    """
    task = asyncio.create_task(call)
    await asyncio.wait({task}, timeout=seconds)
    for _ in range(turns):
        if not task.done():
            await asyncio.sleep(0)
    return await _ended(task, f"{seconds:g} s")


async def _ended(task: asyncio.Task[_T], bound: str) -> _T:
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        message = f"{task.get_coro()!r} did not end within {bound}"
        raise AssertionError(message)
    return task.result()
