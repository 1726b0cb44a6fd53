"""A consumer that stands still in the middle of a transaction, and goes on after another has taken its place."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psutil
import pytest
import sqlalchemy

from deploy.servers.processes import wait_until
from tests.e2e.deployment import Deployment
from tests.e2e.load import Load
from tests.e2e.processes import Tracker
from tests.e2e.recount import recount

STILL_SECONDS = 5.0
"""Longer than the time after which a consumer counts as dead, the broker's heartbeat and the transaction's limit."""
_WAITING = sqlalchemy.text(
    "SELECT client_port FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    "AND wait_event = 'relation'"
)
"""Waits for the table. Others of the same consumer may wait for rows that this one has locked, and would go on waiting."""
_CUT = sqlalchemy.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND xact_start IS NOT NULL"
)
_STATES = sqlalchemy.text(
    "SELECT state, wait_event FROM pg_stat_activity WHERE datname = current_database() AND client_port = :port"
)
_TRIES = 5
_STANDS_STILL = {("idle in transaction", "ClientRead"), ("active", "ClientRead")}
"""What a backend says whose client is silent in the middle of a transaction: between two statements, or in a COPY."""


@pytest.mark.timeout(180)
def test_a_consumer_stopped_in_mid_transaction_and_resumed_applies_nothing_twice(full: Deployment) -> None:
    """A table is locked, so that a consumer's flush is held up inside its transaction; there it is stopped (SIGSTOP) and
    the table released: PostgreSQL then says "idle in transaction". Another consumer takes over and stores the same
    messages; the first is resumed and finds its transaction ended. So at four points of the transaction, from the
    first statement to the last. Every point is there once, and both consumers live."""
    full.environment |= {"TRACKER_TRANSACTION_TIMEOUT_SECONDS": "3", "TRACKER_ASSIGNMENT_SECONDS": "0.4"}
    full.start(consumers=2)
    engine = sqlalchemy.create_engine(full.settings["database_url"], isolation_level="AUTOCOMMIT")
    stub = full.stub()
    with Load(full.addresses, callers=4, runs=6, metrics=5, rows=50, pause=0.02) as load:
        load.wait_acknowledged(40)
        for table in ("writers", "series", "chunk_tail", "runs"):
            stopped, port = stop_within(engine, full, table)
            until = time.monotonic() + STILL_SECONDS
            while time.monotonic() < until:
                load.wait_acknowledged(5)
            assert wait_until(partial(ended, engine, port), 20), "its transaction is not ended"
            other = next(consumer for consumer in full.consumers if consumer is not stopped)
            assert other.health() == "SERVING"
            stopped.resume()
            load.wait_acknowledged(20)
            stopped.wait_health("SERVING", 30)
        load.finish()
    assert not load.failures
    recount(stub, load)
    assert all(consumer.running for consumer in full.consumers)
    engine.dispose()


@pytest.mark.timeout(120)
def test_connections_cut_in_mid_transaction_apply_nothing_twice(full: Deployment) -> None:
    """Under load, every connection that is just then inside a transaction is ended by PostgreSQL, twenty times. No write
    fails, every point is there once."""
    full.start()
    engine = sqlalchemy.create_engine(full.settings["database_url"], isolation_level="AUTOCOMMIT")

    def cut() -> bool:
        with engine.connect() as connection:
            return bool(connection.execute(_CUT).scalars().all())

    with Load(full.addresses, callers=4, runs=6, metrics=5, rows=50, pause=0.02) as load:
        for _ in range(20):
            load.wait_acknowledged(3)
            assert wait_until(cut, 20, interval=0.002), full.consumer.describe("is never in a transaction")
        load.finish()
    assert not load.failures
    recount(full.stub(), load)
    engine.dispose()


@contextmanager
def locked(engine: sqlalchemy.Engine, table: str) -> Iterator[None]:
    """Nobody else writes to the table."""
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE MODE")
        try:
            yield
        finally:
            connection.exec_driver_sql("ROLLBACK")


def stop_within(engine: sqlalchemy.Engine, deployment: Deployment, table: str) -> tuple[Tracker, int]:
    """Stops a consumer where its transaction comes to a table; returns it and the port of its connection.

    Tries again where the other consumer has just ended the sessions of this one: it does that to one that has not said
    for two seconds that it lives, which on a busy machine may also be one that does.
    """
    for _ in range(_TRIES):
        with locked(engine, table):
            stopped, port = stop_one(engine, deployment)
        assert wait_until(lambda port=port: backend(engine, port) in {*_STANDS_STILL, None}, 10), (  # type: ignore[misc]  # bound at once
            table,
            backend(engine, port),
        )
        if stands_still(engine, port):
            return stopped, port
        stopped.resume()
        stopped.wait_health("SERVING", 30)
    pytest.fail(f"in {_TRIES} tries no consumer stood still at {table}")


def stop_one(engine: sqlalchemy.Engine, deployment: Deployment) -> tuple[Tracker, int]:
    """Stops a consumer that waits for a lock; returns it and the port of its connection."""
    found: list[tuple[Tracker, int]] = []

    def waits() -> bool:
        with engine.connect() as connection:
            ports = set(connection.execute(_WAITING).scalars())
        for consumer in deployment.consumers:
            own = {one.laddr.port for one in psutil.Process(consumer.pid).net_connections("tcp") if one.laddr}
            found.extend((consumer, port) for port in own & ports)
        return bool(found)

    assert wait_until(waits, 20, interval=0.02), "no consumer waits for the lock"
    consumer, port = found[0]
    consumer.pause()
    return consumer, port


def stands_still(engine: sqlalchemy.Engine, port: int) -> bool:
    """Whether a connection is in a transaction in which nothing happens."""
    return backend(engine, port) in _STANDS_STILL


def ended(engine: sqlalchemy.Engine, port: int) -> bool:
    """Whether a connection is gone."""
    return backend(engine, port) is None


def backend(engine: sqlalchemy.Engine, port: int) -> tuple[str, str | None] | None:
    """What a connection's backend does, and what it waits for; None when it has ended."""
    with engine.connect() as connection:
        row = connection.execute(_STATES, {"port": port}).one_or_none()
    return None if row is None else (row.state, row.wait_event)
