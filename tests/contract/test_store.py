"""The battery of the store on SQLite and on a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers import PostgreSQL
from tests.contract.store_contract import StoreContract
from tests.contract.store_databases import postgres_store, sqlite_store
from tracker_server.store.store import Store


class TestSqliteStore(StoreContract):
    """A file of its own for each test."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with sqlite_store(tmp_path, synced=False) as store:
            yield store


class TestPostgresStore(StoreContract):
    """One database, emptied for each test."""

    @pytest.fixture
    def store(self, postgresql: PostgreSQL) -> Iterator[Store]:
        with postgres_store(postgresql) as store:
            yield store
