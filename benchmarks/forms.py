"""A tracker to be measured, in either form: real processes, on real servers of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.servers import PostgreSQL, RabbitMQ, Redis, Server, start_all, stop_all
from tests.e2e.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Form:
    """A tracker that runs."""

    name: str
    """full or embedded."""
    deployment: Deployment
    servers: Mapping[str, Server]
    """Of the full form, by name."""

    @property
    def postgresql(self) -> PostgreSQL | None:
        """Of the full form."""
        server = self.servers.get("PostgreSQL")
        return server if isinstance(server, PostgreSQL) else None

    @property
    def address(self) -> str:
        """Of its server."""
        return self.deployment.server.address


@contextmanager
def full() -> Iterator[Form]:
    """RabbitMQ, Redis, PostgreSQL, one server and one consumer."""
    with _directory() as directory:
        rabbitmq, redis = RabbitMQ(directory / "rabbitmq"), Redis(directory / "redis")
        postgresql = PostgreSQL(directory / "postgresql")
        servers = (rabbitmq, redis, postgresql)
        start_all(*servers)
        deployment = Deployment(
            directory / "tracker",
            broker_url=rabbitmq.url,
            cache_url=redis.url,
            database_url=postgresql.url,
            share_port="true",
        )
        try:
            names = {"RabbitMQ": rabbitmq, "Redis": redis, "PostgreSQL": postgresql}
            yield Form("full", deployment.start(), names)
        finally:
            deployment.close()
            stop_all(*servers)
            for server in servers:
                server.remove()


@contextmanager
def embedded() -> Iterator[Form]:
    """One process and SQLite."""
    with _directory() as directory:
        deployment = Deployment(directory / "tracker")
        try:
            yield Form("embedded", deployment.start(), {})
        finally:
            deployment.close()


@contextmanager
def other_consumer(form: Form, **settings: str) -> Iterator[None]:
    """A consumer with these settings (without TRACKER_, in lower case) in place of the full form's own."""
    own = form.deployment.consumer
    own.terminate()
    own.wait()
    other = form.deployment.add("consume", **settings).start()
    try:
        yield
    finally:
        other.terminate()
        other.wait()
        own.start()


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tracker-bench-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
