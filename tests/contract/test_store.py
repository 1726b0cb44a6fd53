"""The battery of the store on SQLite and on a real PostgreSQL."""

from collections.abc import Iterator

import pytest

from deploy.servers import PostgreSQL
from tests.contract.store_contract import StoreContract
from tests.contract.store_databases import emptied, postgres_store, sqlite_store
from tracker_server.store.store import Store


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The file of all tests of this module."""
    with sqlite_store(tmp_path_factory.mktemp("store"), synced=False) as store:
        yield store


class TestSqliteStore(StoreContract):
    """One file, emptied for each test."""

    @pytest.fixture
    def store(self, sqlite: Store) -> Store:
        return emptied(sqlite)


class TestPostgresStore(StoreContract):
    """One database, emptied for each test."""

    @pytest.fixture
    def store(self, postgresql: PostgreSQL) -> Iterator[Store]:
        with postgres_store(postgresql) as store:
            yield store
