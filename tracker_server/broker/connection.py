"""A connection to the broker that is kept for ever: lost, it is made again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from tracker_server.broker.amqp import AmqpError, Connection, parameters
from tracker_server.config import Settings

FIRST_DELAY_SECONDS: Final = 0.1
"""Pause after the first failure; it doubles with each."""
LONGEST_DELAY_SECONDS: Final = 5.0
"""Longest pause between two attempts."""
_STEADY_SECONDS: Final = 1.0
"""A connection that lasted so long was a good one: the pauses begin anew."""

_log = structlog.get_logger(__name__)


class KeptConnection:
    """Connects, runs a session on the connection, and begins again when either ends.

    The session is given each new connection. It sets up what it needs, calls `established`, and stays until something
    ends it, returning or raising AmqpError with the cause. It must leave nothing behind: it may be cancelled any time.
    """

    def __init__(
        self,
        settings: Settings,
        purpose: str,
        session: Callable[[Connection], Awaitable[None]],
        on_blocked: Callable[[bool, str], None] | None = None,
    ) -> None:
        """Raises BadSetting when the broker's URL cannot be read."""
        self._parameters: Any = parameters(settings, purpose)
        self._session = session
        self._on_blocked = on_blocked
        self._log = _log.bind(
            purpose=purpose,
            host=self._parameters.host,
            port=self._parameters.port,
            vhost=self._parameters.virtual_host,
        )
        self._task: asyncio.Task[None] | None = None
        self._reported: set[str] = set()
        self._established_at: float | None = None
        self.trouble = "not connected yet"
        """Why there is no connection just now, for people."""

    def start(self) -> None:
        """Begins to connect."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="broker connection")

    def established(self) -> None:
        """The session says: everything is ready."""
        self._established_at = asyncio.get_running_loop().time()
        self._reported.clear()
        self._log.info("broker_connected")

    async def close(self) -> None:
        """Ends the session and closes the connection. May be repeated."""
        self.trouble = "closed"
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            self._established_at = None
            try:
                await self._once()
                trouble = "the connection ended"
            except AmqpError as error:
                trouble = str(error)
            except Exception as error:  # noqa: BLE001 - to the log with it, and on
                # A fault of ours. To go on is better than a process that lives and never connects again.
                self._log.exception("broker_session_failed")
                trouble = repr(error)
            self._report(trouble)
            if self._lasted() >= _STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    async def _once(self) -> None:
        connection = await Connection.open(self._parameters, self._on_blocked)
        try:
            await self._session(connection)
        finally:
            await connection.close()

    def _lasted(self) -> float:
        """Seconds since everything was ready; 0 when it never was."""
        return 0.0 if self._established_at is None else asyncio.get_running_loop().time() - self._established_at

    def _report(self, trouble: str) -> None:
        self.trouble = trouble
        if trouble not in self._reported:
            self._reported.add(trouble)
            event = "broker_connect_failed" if self._established_at is None else "broker_connection_lost"
            self._log.warning(event, cause=trouble)
