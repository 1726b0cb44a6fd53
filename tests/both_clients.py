"""TrackerClient and AsyncTrackerClient behind one face, so that each promise is tested of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tracker_client.aio import AsyncTrackerClient
from tracker_client.client import TrackerClient

KINDS = ("sync", "async")


@dataclass(frozen=True)
class Caller:
    """Either client. The synchronous one is called in a thread."""

    client: TrackerClient | AsyncTrackerClient

    async def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Calls a method that gives one answer."""
        if isinstance(self.client, TrackerClient):
            return await asyncio.to_thread(getattr(self.client, method), *arguments, **options)
        return await getattr(self.client, method)(*arguments, **options)

    async def all(self, method: str, *arguments: Any, **options: Any) -> list[Any]:
        """Calls a method that gives an iterator, and takes everything out of it."""
        answers = getattr(self.client, method)(*arguments, **options)
        if isinstance(self.client, TrackerClient):
            return await asyncio.to_thread(list, answers)
        return [answer async for answer in answers]


@asynccontextmanager
async def calling(kind: str, address: str, **options: Any) -> AsyncIterator[Caller]:
    """A client of that kind, closed afterwards."""
    if kind == "sync":
        with TrackerClient(address, **options) as client:
            yield Caller(client)
    else:
        async with AsyncTrackerClient(address, **options) as aio_client:
            yield Caller(aio_client)
