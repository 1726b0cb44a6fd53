"""What lies in the tables of points: how it was cut, whether it has been merged, how much of the disk it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine, func, select, text

from benchmarks.forms import Form
from tracker_server.store.series_book import LARGE_CHUNK_POINTS
from tracker_server.store.tables import chunk_tail, chunks, series

TABLES = ("chunks", "chunk_tail", "series")
"""Where points and what is known of them lie."""
_SECONDS = 120.0
_LOOK_SECONDS = 0.1
_VACUUM_SECONDS = 1.0


def wait_merged(form: Form, run_id: str) -> None:
    """Returns when the consumer has left nothing of a run that has ended that could be merged."""
    mergeable = (
        select(chunk_tail.c.series_no)
        .where(chunk_tail.c.run_id == run_id)
        .group_by(chunk_tail.c.series_no, chunk_tail.c.attempt)
        .having((func.count() > 1) | (func.sum(chunk_tail.c.count) >= LARGE_CHUNK_POINTS))
        .limit(1)
    )
    deadline = time.monotonic() + _SECONDS
    with _connection(form) as connection:
        while connection.execute(mergeable).first() is not None:
            connection.rollback()
            assert time.monotonic() < deadline, f"run {run_id} is not merged within {_SECONDS:.0f} s"
            time.sleep(_LOOK_SECONDS)


def merged_away(form: Form) -> int:
    """How many chunks of all that were ever written are no longer there, over all runs: they became part of others."""
    written = select(func.coalesce(func.sum(series.c.chunk_count), 0)).scalar_subquery()
    there = [select(func.count()).select_from(table).scalar_subquery() for table in (chunks, chunk_tail)]
    with _connection(form) as connection:
        return int(connection.execute(select(written - sum(there[1:], there[0]))).scalar_one())


def written_chunks(form: Form, run_id: str) -> int:
    """How many the flushes wrote of each series of a run, at most. What a merge makes counts as nothing new."""
    with _connection(form) as connection:
        query = select(func.max(series.c.chunk_count)).where(series.c.run_id == run_id)
        return int(connection.execute(query).scalar_one())


def stored_points(form: Form) -> int:
    """Over all runs."""
    with _connection(form) as connection:
        tables = (chunks, chunk_tail)
        return sum(connection.execute(select(func.coalesce(func.sum(t.c.count), 0))).scalar_one() for t in tables)


def disk_bytes(form: Form) -> dict[str, int]:
    """Of each of TABLES in PostgreSQL, after VACUUM, with its indexes, TOAST table, free space and visibility maps."""
    with _connection(form) as connection:
        direct = connection.execution_options(isolation_level="AUTOCOMMIT")
        sizes = {}
        for name in TABLES:
            direct.execute(text(f"VACUUM {name}"))
            sizes[name] = int(direct.execute(text(f"SELECT pg_total_relation_size('{name}')")).scalar_one())
        return sizes


@contextmanager
def vacuumed(form: Form) -> Iterator[None]:
    """Vacuums the table of small chunks every second, in place of autovacuum, which looks once a minute (autovacuum_naptime).

    For a run of a whole day that is logged in a minute: autovacuum would find all of the day's dead rows at once.
    """
    over = threading.Event()

    def keep_on() -> None:
        with _connection(form) as connection:
            direct = connection.execution_options(isolation_level="AUTOCOMMIT")
            while not over.wait(_VACUUM_SECONDS):
                direct.execute(text("VACUUM chunk_tail"))

    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(keep_on)
        try:
            yield
        finally:
            over.set()
            kept.result()


def settle(form: Form) -> None:
    """What maintenance PostgreSQL has due after a lot was written is done now, and not beside what comes next."""
    with _connection(form) as connection:
        direct = connection.execution_options(isolation_level="AUTOCOMMIT")
        direct.execute(text("VACUUM (ANALYZE)"))
        direct.execute(text("CHECKPOINT"))


@contextmanager
def _connection(form: Form) -> Iterator[Connection]:
    engine = create_engine(form.deployment.settings["database_url"])
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
