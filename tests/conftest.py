"""Real servers for the tests: each started once in a session, when first asked for; a fresh corner of it for each test.

With several workers (pytest-xdist) each has a session, and so servers, of its own: none stops what another still uses.
"""

import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pika
import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from deploy.servers import PostgreSQL, RabbitMQ, Redis
from tests.schedule import FileSchedule
from tracker_server.broker.topology import SETTLED

# grpc's fork handlers abort the child when calls are under way, and starting a server's tool as another user forks.
# Read when grpc is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# Hypothesis allows an example 200 ms by the clock on the wall, and its making a second or so. Both bound the machine, and
# no promise of the tracker: examples here flush to databases, and their process may have to wait for its turn. Where
# something has to be quick, its own test says how quick. How many examples there are is not touched by this.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

_redis_numbers = itertools.cycle(range(1, 16))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileSchedule | None:
    """Which worker runs what. A command line that asks for another way than by file gets it."""
    return FileSchedule(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def servers_directory() -> Iterator[Path]:
    """Where the servers of this session keep their state."""
    directory = Path(tempfile.mkdtemp(prefix="tracker-tests-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def rabbitmq(servers_directory: Path) -> Iterator[RabbitMQ]:
    """The session's RabbitMQ. A test that stops or kills one starts its own."""
    server = RabbitMQ(servers_directory / "rabbitmq")
    server.start()
    yield server
    server.stop()
    server.remove()


@pytest.fixture(scope="session")
def redis_server(servers_directory: Path) -> Iterator[Redis]:
    """The session's Redis. A test that stops or kills one starts its own."""
    server = Redis(servers_directory / "redis")
    server.start()
    yield server
    server.stop()
    server.remove()


@pytest.fixture(scope="session")
def postgresql(servers_directory: Path) -> Iterator[PostgreSQL]:
    """The session's PostgreSQL. A test that stops or kills one starts its own."""
    server = PostgreSQL(servers_directory / "postgresql")
    server.start()
    yield server
    server.stop()
    server.remove()


@pytest.fixture
def amqp_url(rabbitmq: RabbitMQ) -> Iterator[str]:
    """An empty virtual host of the session's RabbitMQ, gone after the test. Nobody kills that one, so queues are used at once."""
    with settled_vhost(rabbitmq) as url:
        yield url


@contextmanager
def settled_vhost(rabbitmq: RabbitMQ) -> Iterator[str]:
    """An empty virtual host in which new queues need no rest: for a RabbitMQ that nobody kills."""
    name = f"test-{uuid.uuid4().hex}"
    url = rabbitmq.add_vhost(name)
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        connection.channel().exchange_declare(SETTLED, "direct", durable=True)
    yield url
    rabbitmq.delete_vhost(name)


@pytest.fixture
def database_url(postgresql: PostgreSQL) -> Iterator[str]:
    """An empty database (no migration applied) of the session's PostgreSQL, gone after the test."""
    name = f"test_{uuid.uuid4().hex}"
    yield postgresql.create_database(name)
    postgresql.drop_database(name)


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """An empty database of the session's Redis, another one than the last test's."""
    number = next(_redis_numbers)
    redis_server.flush(number)
    return redis_server.database_url(number)
