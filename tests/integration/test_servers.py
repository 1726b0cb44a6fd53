"""What deploy/servers promises: real servers that live, die, freeze and come back as the other tests need them to."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pika
import psutil
import psycopg2
import pytest
import redis

from deploy.servers import PostgreSQL, RabbitMQ, Redis, Server, ServerError, start_all, stop_all
from deploy.servers.processes import identify, wait_until

ROOT = Path(__file__).resolve().parents[2]

# Starts a Redis and a PostgreSQL, says which processes they are, and waits to be killed.
PARENT = """
import sys, time
from deploy.servers import PostgreSQL, Redis, start_all
servers = [Redis(sys.argv[1] + "/redis"), PostgreSQL(sys.argv[1] + "/postgresql")]
start_all(*servers)
print(*(server.pid for server in servers), flush=True)
time.sleep(600)
"""


class Stack:
    """One of each server."""

    def __init__(self, directory: Path) -> None:
        self.rabbitmq = RabbitMQ(directory / "rabbitmq")
        self.redis = Redis(directory / "redis")
        self.postgresql = PostgreSQL(directory / "postgresql")
        self.servers: tuple[Server, ...] = (self.rabbitmq, self.redis, self.postgresql)


@pytest.fixture(scope="module")
def stack(servers_directory: Path) -> Iterator[Stack]:
    """A stack of this module's own, since its servers get killed."""
    stack = Stack(servers_directory / "own")
    start_all(*stack.servers)
    publish(stack.rabbitmq.url, b"")
    assert fetch(stack.rabbitmq.url) == b""
    # What RabbitMQ would write only after a while: else the queue, being new, would not survive a kill.
    stack.rabbitmq.evaluate("[dets:sync(Table) || Table <- dets:all()]")
    yield stack
    stop_all(*stack.servers)
    for server in stack.servers:
        server.remove()


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def publish(url: str, body: bytes) -> None:
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        channel.queue_declare("kept", durable=True, arguments={"x-queue-type": "quorum"})
        channel.confirm_delivery()
        channel.basic_publish("", "kept", body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def fetch(url: str) -> bytes | None:
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        body: bytes | None = connection.channel().basic_get("kept", auto_ack=True)[2]
        return body


def family(server: Server) -> list[psutil.Process]:
    main = psutil.Process(server.pid)
    return [main, *main.children(recursive=True)]


def ended(processes: list[psutil.Process]) -> bool:
    """Whether all are gone, or no more than an entry that their new parent has not fetched yet."""
    return not any(process.is_running() and identify(process.pid) for process in processes)


def listening(pid: int) -> set[str]:
    return {c.laddr.ip for c in psutil.Process(pid).net_connections("inet") if c.status == psutil.CONN_LISTEN}


def test_all_answer_on_the_loopback_interface_only(stack: Stack) -> None:
    assert query(stack.postgresql.url, "SELECT current_database(), current_setting('fsync')") == [("tracker", "on")]
    assert redis.Redis.from_url(stack.redis.url).set("a", "b")
    publish(stack.rabbitmq.url, b"first")
    assert fetch(stack.rabbitmq.url) == b"first"
    for server in stack.servers:
        assert server.running
        assert listening(server.pid) == {"127.0.0.1"}, server.name
        assert server.log_path.exists()


def test_they_do_not_run_as_root(stack: Stack) -> None:
    for server in stack.servers:
        for process in family(server):
            assert process.uids().effective != 0, process


def test_corners_of_a_server_are_apart(amqp_url: str, database_url: str, redis_url: str, rabbitmq: RabbitMQ) -> None:
    publish(amqp_url, b"mine")
    other = rabbitmq.add_vhost("other corner/ä")
    try:
        publish(other, b"other's")
        assert fetch(amqp_url) == b"mine"
    finally:
        rabbitmq.delete_vhost("other corner/ä")
    assert "other corner" not in rabbitmq.ctl("list_vhosts")
    assert query(database_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    assert redis.Redis.from_url(redis_url).dbsize() == 0


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_data_outlive_a_kill_and_a_stop(stack: Stack, end: str) -> None:
    query(stack.postgresql.url, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS answer")
    publish(stack.rabbitmq.url, end.encode())
    members = [process for server in stack.servers for process in family(server)]
    urls = [server.url for server in stack.servers]

    for server in stack.servers:
        getattr(server, end)()
        assert not server.running
    # Including what a server leaves behind as a daemon, and PostgreSQL's children, which are no process group.
    assert ended(members)

    start_all(*stack.servers)
    assert [server.url for server in stack.servers] == urls
    assert query(stack.postgresql.url, "SELECT answer FROM kept") == [(42,)]
    assert fetch(stack.rabbitmq.url) == end.encode()
    assert redis.Redis.from_url(stack.redis.url).ping()


def test_a_paused_server_holds_its_connections_and_goes_on(stack: Stack) -> None:
    for server in stack.servers:
        port = server.port
        server.pause()
        assert server.running
        assert {process.status() for process in family(server)} == {psutil.STATUS_STOPPED}
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01" if server is stack.rabbitmq else b"PING\r\n")
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        server.resume()
    assert query(stack.postgresql.url, "SELECT 1") == [(1,)]
    assert redis.Redis.from_url(stack.redis.url).ping()
    assert fetch(stack.rabbitmq.url) is None


def test_a_paused_server_can_be_stopped_and_killed(tmp_path_factory: pytest.TempPathFactory) -> None:
    for end in (Server.stop, Server.kill):
        server = Redis(tmp_path_factory.mktemp("paused") / "redis")
        server.start()
        pid = server.pid
        server.pause()
        end(server)
        assert not psutil.pid_exists(pid)
        server.remove()


def test_servers_die_with_their_killed_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        mains = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        members = [process for main in mains for process in (main, *main.children(recursive=True))]
        assert len(mains) == 2
        parent.kill()
    assert wait_until(lambda: ended(members), seconds=10)

    # The next run finds the data in order.
    server = PostgreSQL(tmp_path / "postgresql")
    server.start()
    assert query(server.url, "SELECT 1") == [(1,)]
    server.remove()
    Redis(tmp_path / "redis").remove()


def test_leftovers_of_a_crashed_run_are_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        left = psutil.Process(int(parent.stdout.readline().split()[0]))
        keeper = psutil.Process(left.ppid())
        # A keeper that cannot act: its server outlives its parent.
        keeper.suspend()
        parent.kill()
    assert left.is_running()

    server = Redis(tmp_path / "redis")
    server.start()
    assert ended([left])
    server.remove()
    PostgreSQL(tmp_path / "postgresql").remove()


def test_a_directory_in_use_is_refused(stack: Stack) -> None:
    with pytest.raises(ServerError, match=f"in use by process {os.getpid()}"):
        Redis(stack.redis.directory).start()
    assert stack.redis.running


def test_a_server_that_cannot_start_says_why(tmp_path: Path, stack: Stack) -> None:
    late = Redis(tmp_path / "redis", port=stack.redis.port)
    with pytest.raises(ServerError, match=f"port {stack.redis.port} is in use"):
        late.start()
    late.remove()

    class Broken(Redis):
        def _prepare(self) -> None:
            super()._prepare()
            with (self.real / "redis.conf").open("a") as settings:
                settings.write("no-such-setting yes\n")

    broken = Broken(tmp_path / "broken")
    with pytest.raises(ServerError, match="no-such-setting"):
        broken.start()
    assert not broken.running
    broken.remove()


def test_two_stacks_do_not_meet(stack: Stack, rabbitmq: RabbitMQ, redis_server: Redis, postgresql: PostgreSQL) -> None:
    others: tuple[Server, ...] = (rabbitmq, redis_server, postgresql)
    assert not {server.port for server in stack.servers} & {server.port for server in others}
    vhost = rabbitmq.add_vhost("two-stacks")
    publish(vhost, b"stays")
    for server in stack.servers:
        server.kill()
    assert all(server.running for server in others)
    assert fetch(vhost) == b"stays"
    assert rabbitmq.evaluate("nodes()") == "[]"
    rabbitmq.delete_vhost("two-stacks")
    stack.redis.start()


def test_a_place_that_the_servers_user_cannot_reach(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        # The promise is about root: anyone else runs servers as themselves, and can reach their own places.
        return
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = PostgreSQL(closed / "postgresql")
    server.start()
    assert (closed / "postgresql").is_symlink()
    query(server.url, "CREATE TABLE kept AS SELECT 1")
    real = server.real
    server.restart()
    assert server.real == real
    assert query(server.url, "SELECT count(*) FROM kept") == [(1,)]
    server.remove()
    assert not real.exists()
    assert not (closed / "postgresql").is_symlink()


def test_starting_is_quick_enough_to_kill_often(stack: Stack) -> None:
    started = time.monotonic()
    stack.redis.kill()
    stack.redis.start()
    assert time.monotonic() - started < 5


def test_what_a_server_leaves_behind_is_fetched(rabbitmq: RabbitMQ) -> None:
    """RabbitMQ starts its epmd again and again; each is a daemon whose parent has gone."""
    keeper = psutil.Process(rabbitmq.pid).parent()
    assert keeper is not None
    rabbitmq.evaluate('os:cmd("epmd -daemon")')
    assert wait_until(lambda: all(child.status() != psutil.STATUS_ZOMBIE for child in keeper.children()), seconds=5)
