"""The event loop as pika uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pika.adapters.asyncio_connection import _AsyncioIOServicesAdapter
from pika.adapters.utils.nbio_interface import AbstractIOReference


class PikaLoop(_AsyncioIOServicesAdapter):  # type: ignore[misc]  # pika ships no types
    """pika's own, but a search for the broker's address that was cancelled reports nothing any more.

    pika's reports when the address was found in the very turn of the loop in which the search is cancelled. The closed
    connection would then connect, and nobody would ever close it again.
    """

    def getaddrinfo(
        self, host: str, port: int, on_done: Callable[[Any], None], *args: Any, **options: Any
    ) -> AbstractIOReference:
        """As the base class."""

        def report(found: Any) -> None:
            if not search.cancelled:
                on_done(found)

        search = _Search(super().getaddrinfo(host, port, report, *args, **options))
        return search


class _Search(AbstractIOReference):  # type: ignore[misc]  # pika ships no types
    """A search under way."""

    def __init__(self, search: AbstractIOReference) -> None:
        self._search = search
        self.cancelled = False

    def cancel(self) -> bool:
        """As the base class."""
        self.cancelled = True
        return bool(self._search.cancel())
