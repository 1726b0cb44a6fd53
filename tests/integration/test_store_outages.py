"""A database that goes away in the middle: the flush fails as a whole, says so, and the same batch succeeds afterwards."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Connection, event

from deploy.servers import PostgreSQL
from deploy.servers.processes import wait_until
from tests.contract.store_databases import empty, migrated_url, settings_for
from tests.contract.store_state import read_state
from tests.contract.store_writes import block, complete, points, start, update_experiment, write
from tracker_server.errors import StoreUnavailable
from tracker_server.model.writes import LogPoints, Write
from tracker_server.store.run_list import RunQuery
from tracker_server.store.store import Store, open_store


@pytest.fixture
def url(postgresql: PostgreSQL) -> str:
    return migrated_url(postgresql)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_store(settings_for(url), "victim")
    empty(store)
    yield store
    store.close()


@pytest.fixture
def witness(url: str) -> Iterator[Store]:
    """Another process."""
    store = open_store(settings_for(url), "witness")
    yield store
    store.close()


def batch(sequence: int) -> list[Write]:
    """Writes that touch every table."""
    body = LogPoints((block(["a", "b"], range(2_000), [[0.5] * 2_000] * 2),))
    return [
        write(sequence, body, run="r"),
        write(sequence + 1, points([1], [1.0]), run="r", attempt=2),
        write(sequence, start("exp", config={"a": 1}), run="s"),
        write(sequence + 1, complete({"a": 0.5}), run="s"),
        write(sequence, update_experiment(fields={"notes": "n"}), run="exp"),
    ]


def end(witness: Store, connection: Connection) -> None:
    """Ends a connection's session at the server, and returns once it is gone."""
    pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]  # psycopg2's own
    with witness._writer.connect() as other:
        assert other.exec_driver_sql("SELECT pg_terminate_backend(%s, 10000)", (pid,)).scalar_one()


class Killer:
    """Ends the session of a flush before its n-th statement."""

    def __init__(self, store: Store, witness: Store, statement: int) -> None:
        self._store, self._witness, self._left = store, witness, statement
        self.killed = False

    @contextmanager
    def armed(self) -> Iterator[None]:
        engine, bulk = self._store._writer, self._store._bulk
        insert_chunks = bulk.insert_chunks

        def before_statement(connection: Connection, *_: Any) -> None:
            self.count(connection)

        def before_copy(connection: Connection, *arguments: Any) -> None:
            # COPY goes past SQLAlchemy's events.
            self.count(connection)
            insert_chunks(connection, *arguments)

        event.listen(engine, "before_cursor_execute", before_statement)
        event.listen(engine, "commit", self.count)
        bulk.insert_chunks = before_copy  # type: ignore[method-assign,assignment]  # until disarmed
        try:
            yield
        finally:
            event.remove(engine, "before_cursor_execute", before_statement)
            event.remove(engine, "commit", self.count)
            del bulk.insert_chunks

    def count(self, connection: Connection) -> None:
        self._left -= 1
        if self._left == 0:
            self.killed = True
            end(self._witness, connection)


def test_a_connection_killed_before_any_statement_applies_nothing_and_a_retry_everything(
    store: Store, witness: Store
) -> None:
    runs, experiments = ["r", "s"], ["exp", "default"]
    store.flush(batch(1))
    for statement in range(1, 100):
        before = read_state(witness, runs, experiments)
        writes = batch(statement * 10)
        killer = Killer(store, witness, statement)
        with killer.armed():
            if killer_spared(store, writes, killer):
                break
        assert read_state(witness, runs, experiments) == before, f"statement {statement}"
        outcome = store.flush(writes)
        assert (outcome.applied, outcome.duplicates) == (5, 0)
        assert store.flush(writes).duplicates == 5
    else:
        pytest.fail("a flush has no end")
    assert statement > 12
    count = witness.read_run("r", "", 1).metrics[0].totals.count
    assert count == len(read_state(witness, ["r"], [])["runs"]["r"]["history"]["a"])


def killer_spared(store: Store, writes: list[Write], killer: Killer) -> bool:
    """Flushes, and says whether it got through, having had fewer statements than the killer waited for."""
    try:
        store.flush(writes)
    except StoreUnavailable:
        assert killer.killed
        return False
    assert not killer.killed
    return True


def test_a_commit_whose_answer_is_lost_is_applied_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = batch(1)
    dialect = store._writer.dialect
    commit = dialect.do_commit

    def commit_and_lose_the_answer(connection: Any) -> None:
        commit(connection)
        message = "server closed the connection unexpectedly"
        raise psycopg2.OperationalError(message)

    with monkeypatch.context() as patch:
        patch.setattr(dialect, "do_commit", commit_and_lose_the_answer)
        with pytest.raises(StoreUnavailable, match="server closed the connection"):
            store.flush(writes)
    outcome = store.flush(writes)
    assert (outcome.applied, outcome.duplicates, outcome.points) == (0, 5, 0)
    assert store.read_run("r", "", 1).metrics[0].totals.count == 2_000


def test_copy_that_fails_for_a_passing_reason_is_an_outage(store: Store, witness: Store) -> None:
    insert_chunks = store._bulk.insert_chunks

    def wait_briefly(connection: Connection, *arguments: Any) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")
        insert_chunks(connection, *arguments)

    store._bulk.insert_chunks = wait_briefly  # type: ignore[method-assign,assignment]  # until the end
    with witness._writer.begin() as other:
        other.exec_driver_sql("LOCK TABLE chunks IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            store.flush(batch(1))
    assert store.flush(batch(1)).applied == 5


def test_idle_connections_that_were_killed_are_replaced_unseen(store: Store, witness: Store) -> None:
    store.flush([write(1, points([1], [1.0]))])
    store.read_run("run", "", 1)
    with witness._writer.connect() as other:
        ended = other.exec_driver_sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'victim'"
        ).all()
    assert len(ended) >= 2
    assert store.flush([write(2, points([2], [2.0]))]).applied == 1
    assert store.read_run("run", "", 1).metrics[0].totals.count == 2


def test_a_value_that_the_database_refuses_is_no_outage(store: Store) -> None:
    bad = write(1, start(metadata={"a": "\0"}))
    with pytest.raises(Exception, match=r"NUL|u0000|\\\\0") as caught:
        store.flush([write(1, points([1], [1.0]), run="good"), bad])
    assert not isinstance(caught.value, StoreUnavailable)
    assert store.find_runs(RunQuery(), None, 10)[0] == []
    assert store.flush([write(1, points([1], [1.0]), run="good")]).applied == 1


def test_a_postgresql_killed_under_flushes_loses_and_doubles_nothing(servers_directory: Path) -> None:
    server = PostgreSQL(servers_directory / "killed")
    server.start()
    store = open_store(settings_for(server.url), "victim")
    try:
        store.migrate()
        acknowledged: list[int] = []
        outages: list[StoreUnavailable] = []
        given_up = threading.Event()

        def reached(mark: int) -> bool:
            return len(acknowledged) >= mark or flushing.done()

        def flush_until_acknowledged() -> None:
            for sequence in range(1, 401):
                body = LogPoints((block(["a", "b"], [sequence] * 3, [[0.5, 1.5, 2.5]] * 2),))
                done = False
                while not done and not given_up.is_set():
                    try:
                        store.flush([write(sequence, body)])
                        done = True
                    except StoreUnavailable as error:
                        outages.append(error)
                acknowledged.append(sequence)

        with ThreadPoolExecutor(1) as pool:
            flushing = pool.submit(flush_until_acknowledged)
            try:
                for mark in (20, 120, 220):
                    assert wait_until(partial(reached, mark), seconds=60)
                    server.kill()
                    with pytest.raises(StoreUnavailable):
                        store.dashboard_stats()
                    server.start()
                flushing.result(60)
            finally:
                given_up.set()
        assert outages
        assert acknowledged == list(range(1, 401))
        state = read_state(store, ["run"], [])["runs"]["run"]
        for name in ("a", "b"):
            assert [step for step, _, _ in state["history"][name]] == [s for s in range(1, 401) for _ in range(3)]
            assert state["metrics"][name]["count"] == 1_200
        (writer,) = state["writers"].values()
        assert writer["applied"] == "1-400"
    finally:
        store.close()
        server.stop()
        server.remove()
