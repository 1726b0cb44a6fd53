"""Deployments for the end-to-end tests, and their logs beside every failure."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.servers import PostgreSQL, RabbitMQ, Redis
from tests.conftest import settled_vhost
from tests.e2e.deployment import Deployment
from tests.e2e.tracked import Tracked, track

FORMS = ("embedded", "full")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the logs of the processes to the report of a failure."""
    report = yield
    if report.when == "call" and report.failed and isinstance(item, pytest.Function):
        for value in item.funcargs.values():
            if isinstance(value, Deployment):
                report.sections += [(f"log of {name}", text) for name, text in value.logs()]
    return report


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """Both forms of the tracker, one after the other."""
    return str(request.param)


@pytest.fixture
def deployment(form: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """A tracker of its own, running; the full form on the session's servers."""
    urls: dict[str, str] = {}
    if form == "full":
        urls = {f"{name}_url": request.getfixturevalue(fixture) for name, fixture in _FIXTURES.items()}
    made = Deployment(tmp_path / "tracker", **urls)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def full(amqp_url: str, redis_url: str, database_url: str, tmp_path: Path) -> Iterator[Deployment]:
    """A tracker of its own in the full form, on the session's servers; nothing of it started."""
    made = Deployment(
        tmp_path / "tracker",
        broker_url=amqp_url,
        cache_url=redis_url,
        database_url=database_url,
        broker_heartbeat_seconds="2",
    )
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Deployment]:
    """A tracker of its own in the embedded form; not started."""
    made = Deployment(tmp_path / "tracker")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def calm_full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One tracker in the full form for all tests that break nothing."""
    rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
    redis: Redis = request.getfixturevalue("redis_server")
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    name = f"calm_{uuid.uuid4().hex}"
    with settled_vhost(rabbitmq) as broker_url:
        urls: dict[str, Any] = {
            "broker_url": broker_url,
            "cache_url": redis.url,
            "database_url": postgresql.create_database(name),
        }
        with _running(Deployment(tmp_path_factory.mktemp("calm-full"), **urls)) as made:
            yield made
    postgresql.drop_database(name)


@pytest.fixture(scope="session")
def calm_embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One tracker in the embedded form for all tests that break nothing."""
    with _running(Deployment(tmp_path_factory.mktemp("calm-embedded"))) as made:
        yield made


@pytest.fixture
def calm(form: str, request: pytest.FixtureRequest) -> Deployment:
    """A running tracker, shared by all tests that break nothing."""
    found: Deployment = request.getfixturevalue(f"calm_{form}")
    return found


@pytest.fixture(scope="module")
def tracked(calm_embedded: Deployment) -> Tracked:
    """A running tracker with an experiment of two runs, which no test changes."""
    return track(calm_embedded.server.address)


@contextmanager
def _running(made: Deployment) -> Iterator[Deployment]:
    try:
        yield made.start()
    finally:
        made.close()


_FIXTURES = {"broker": "amqp_url", "cache": "redis_url", "database": "database_url"}
