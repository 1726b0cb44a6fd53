"""Who consumes which partition: session advisory locks, shared out among the consumers that are alive.

A consumer that stands still (stopped, or its machine is gone) keeps its sessions, and with them its locks, for as long
as the kernel keeps the connections. So the living end the sessions of one whose registration has lapsed: they bear its
id as their application_name.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import structlog
from sqlalchemy import Connection, text

from tracker_server.errors import StoreUnavailable
from tracker_server.store.engine import guard, postgres_engine

PARTITION_LOCKS = 0x7472_6B32
"""Class of the advisory locks that say who consumes a partition."""
_LAPSED_ROUNDS = 5
"""Rounds without a sign of life after which a consumer counts as dead."""
_FORGOTTEN_MS = 3_600_000
"""Age at which a lapsed registration is deleted."""

_log = structlog.get_logger(__name__)


class WholeAssignment:
    """ports.Assignment of the embedded form: one consumer, all partitions."""

    def __init__(self, partitions: int) -> None:
        self._all = frozenset(range(partitions))

    def renew(self) -> frozenset[int]:
        """See ports.Assignment."""
        return self._all

    def release(self, partitions: Collection[int]) -> None:
        """See ports.Assignment. Nothing is locked."""

    def close(self) -> None:
        """See ports.Assignment. Nothing is locked."""


class PostgresAssignment:
    """ports.Assignment by advisory locks of one session."""

    def __init__(
        self, url: str, partitions: int, *, process_name: str, interval_seconds: float, timeout_seconds: float
    ) -> None:
        self._engine = postgres_engine(
            url, name=process_name, connections=1, timeout_seconds=timeout_seconds, isolation="AUTOCOMMIT"
        )
        self._partitions = partitions
        self._lapsed_ms = max(2_000, int(interval_seconds * _LAPSED_ROUNDS * 1000))
        self._id = process_name
        self._connection: Connection | None = None
        self._held: set[int] = set()

    def renew(self) -> frozenset[int]:
        """See ports.Assignment."""
        try:
            with guard():
                connection = self._session()
                share = self._register(connection)
                return self._take(connection, share)
        except StoreUnavailable:
            self._drop()
            raise

    def release(self, partitions: Collection[int]) -> None:
        """See ports.Assignment."""
        connection = self._connection
        if connection is None:
            return
        try:
            with guard():
                for partition in sorted(set(partitions) & self._held):
                    connection.execute(
                        text("SELECT pg_advisory_unlock(:kind, :number)"),
                        {"kind": PARTITION_LOCKS, "number": partition},
                    )
                    self._held.discard(partition)
        except StoreUnavailable:
            self._drop()

    def close(self) -> None:
        """See ports.Assignment."""
        if self._connection is not None:
            try:
                with guard():
                    self._connection.execute(text("DELETE FROM consumers WHERE consumer_id = :id"), {"id": self._id})
            except StoreUnavailable:
                pass  # the registration lapses by itself
        self._drop()
        self._engine.dispose()

    def _session(self) -> Connection:
        if self._connection is None:
            self._held.clear()
            self._connection = self._engine.connect()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._held.clear()
        if connection is not None:
            # Invalidated, not returned: a session in the pool would keep its locks.
            connection.invalidate()
            connection.close()

    def _register(self, connection: Connection) -> int:
        """Signs in and returns the fair share: at most so many partitions."""
        now = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        connection.execute(
            text(
                f"INSERT INTO consumers (consumer_id, seen_ms) VALUES (:id, {now}) "  # noqa: S608  # own text
                "ON CONFLICT (consumer_id) DO UPDATE SET seen_ms = excluded.seen_ms"
            ),
            {"id": self._id},
        )
        # The lapsed stay listed for a while: one that stands still, goes on and stands still again before it has signed
        # in anew would otherwise keep what it holds for ever.
        connection.execute(
            text(f"DELETE FROM consumers WHERE seen_ms < {now} - :forgotten"),  # noqa: S608  # own text
            {"forgotten": _FORGOTTEN_MS},
        )
        rows = connection.execute(
            text(f"SELECT consumer_id, seen_ms < {now} - :lapsed FROM consumers"),  # noqa: S608  # own text
            {"lapsed": self._lapsed_ms},
        ).all()
        for consumer_id in (consumer_id for consumer_id, lapsed in rows if lapsed):
            self._end_sessions(connection, consumer_id)
        living = sum(not lapsed for _, lapsed in rows)
        return math.ceil(self._partitions / max(1, living))

    @staticmethod
    def _end_sessions(connection: Connection, consumer_id: str) -> None:
        ended = connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = :name AND pid <> pg_backend_pid()"
            ),
            {"name": consumer_id},
        ).all()
        if ended:
            _log.warning("consumer lapsed", consumer=consumer_id, sessions_ended=len(ended))

    def _take(self, connection: Connection, share: int) -> frozenset[int]:
        for partition in range(self._partitions):
            if len(self._held) >= share:
                break
            if partition not in self._held and self._try_lock(connection, partition):
                self._held.add(partition)
        # Surplus stays locked until the consumer has flushed what it had and calls release.
        return frozenset(sorted(self._held)[:share])

    @staticmethod
    def _try_lock(connection: Connection, partition: int) -> bool:
        query = text("SELECT pg_try_advisory_lock(:kind, :number)")
        return bool(connection.execute(query, {"kind": PARTITION_LOCKS, "number": partition}).scalar_one())
