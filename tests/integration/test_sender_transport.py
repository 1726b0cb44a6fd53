"""The sender's connection, to a real server that comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from deploy.servers.ports import free_port
from tracker_client.endpoint import endpoint
from tracker_client.sender.transport import Answer, Transport

_OUTAGE_CALLS = 8
"""After so many failures grpc waits for seconds before it connects again."""


class _Everything(grpc.GenericRpcHandler):
    """Takes any call, with an empty answer."""

    def service(self, _: Any) -> Any:
        """The handler of one method."""
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")


@contextmanager
def serving(port: int) -> Iterator[None]:
    """A server at that port."""
    server = grpc.server(ThreadPoolExecutor(1), [_Everything()])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


@pytest.fixture
def port() -> int:
    """Free so far."""
    return free_port()


@pytest.fixture
def transport(port: int) -> Iterator[Transport]:
    """To that port."""
    made = Transport(endpoint(f"127.0.0.1:{port}"))
    yield made
    made.close()


def answer_of(transport: Transport) -> Answer:
    """Of one call."""
    transport.call("Heartbeat", b"", lambda _: None)
    answer = transport.next_answer(20.0)
    assert answer is not None
    return answer


def fail_for_a_while(transport: Transport) -> None:
    """An outage that is noticed by every call."""
    for _ in range(_OUTAGE_CALLS):
        error = answer_of(transport).error
        assert error is not None
        assert error.code == "UNAVAILABLE"


def test_the_first_call_after_a_server_has_come_back_reaches_it(transport: Transport, port: int) -> None:
    fail_for_a_while(transport)
    with serving(port):
        assert answer_of(transport).error is None
    fail_for_a_while(transport)
    with serving(port):
        assert answer_of(transport).error is None


def test_calls_under_way_are_not_cut_off_when_one_finds_no_connection(transport: Transport, port: int) -> None:
    fail_for_a_while(transport)
    with serving(port):
        for _ in range(5):
            transport.call("Heartbeat", b"", lambda _: None)
        answers = [transport.next_answer(20.0) for _ in range(5)]
    assert [answer.error for answer in answers if answer is not None] == [None] * 5
