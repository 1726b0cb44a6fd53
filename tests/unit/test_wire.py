"""Redis' wire format."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from tracker_server.cache.wire import Parser, pack

REPLIES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=300),
    lambda items: st.lists(items, max_size=4),
    max_leaves=8,
)


def encode(reply: Any) -> bytes:
    """A reply as a server sends it."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(encode(item) for item in reply)


@given(st.lists(REPLIES, max_size=5), st.lists(st.integers(0, 400), max_size=12))
def test_replies_come_out_whole_however_they_are_cut(replies: list[Any], cuts: list[int]) -> None:
    sent = b"".join(encode(reply) for reply in replies)
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    parser = Parser()
    got = []
    for begin, end in itertools.pairwise(edges):
        got += parser.feed(sent[begin:end])
    assert got == replies


def test_byte_by_byte() -> None:
    parser = Parser()
    sent = b"+OK\r\n*2\r\n$3\r\na\r\n\r\n$-1\r\n-ERR no\r\n:7\r\n*-1\r\n"
    got = [reply for byte in sent for reply in parser.feed(bytes([byte]))]
    assert got[:2] == [b"OK", [b"a\r\n", None]]
    assert isinstance(got[2], ResponseError)
    assert got[3:] == [7, None]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"-LOADING Redis is loading", BusyLoadingError),
        (b"-NOAUTH Authentication required.", AuthenticationError),
        (b"-OOM command not allowed", OutOfMemoryError),
        (b"-READONLY You can't write", ReadOnlyError),
        (b"-WRONGTYPE Operation", ResponseError),
        (b"-MOVED 866 127.0.0.1:1", ResponseError),
        (b"-\xff", ResponseError),
        (b"-", ResponseError),
    ],
)
def test_errors_are_values(line: bytes, kind: type[RedisError]) -> None:
    (error,) = Parser().feed(line + b"\r\n")
    assert type(error) is kind


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"HTTP",
        b"$x\r\n",
        b"*x\r\n",
        b":\r\n",
        b"%1\r\n",
        b"\x16\x03\x01",
        b"+" * 70_000,
    ],
)
def test_what_is_no_reply_is_refused(sent: bytes) -> None:
    with pytest.raises(RedisConnectionError):
        Parser().feed(sent)


def test_commands_are_packed() -> None:
    packed = pack([(b"SET", b"k", b"\r\n\x00", b"EX", 300), (b"PING",)])
    assert packed == b"*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\r\n\x00\r\n$2\r\nEX\r\n$3\r\n300\r\n*1\r\n$4\r\nPING\r\n"
