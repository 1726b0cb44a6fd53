"""Whatever bytes lie in the queue, reading them raises Undecodable or nothing."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.envelopes import PAYLOADS, good_write
from tracker.internal.v1 import envelope_pb2 as internal
from tracker_server.envelope import decode_write, read_envelope, wrap_write
from tracker_server.envelope_values import Undecodable

START = internal.WRITE_KIND_START_RUN


def try_reading(body: bytes) -> None:
    """Reads whatever can be read; what cannot must say why."""
    raws: list[internal.Write] = []
    reasons: list[str] = []
    try:
        raws = read_envelope(body)
    except Undecodable as error:
        reasons.append(str(error))
    for raw in raws:
        try:
            decode_write(raw)
        except Undecodable as error:
            reasons.append(str(error))
    assert all(reasons)


@given(st.binary(max_size=200))
@example(b"\x08\x01\x12\x00")
def test_random_bytes_raise_nothing_else(body: bytes) -> None:
    try_reading(body)


@given(st.sampled_from(sorted(PAYLOADS)), st.binary(max_size=100))
def test_random_payloads_raise_nothing_else(kind: int, payload: bytes) -> None:
    try_reading(wrap_write(good_write(kind, payload)))


@pytest.mark.parametrize("kind", PAYLOADS)
def test_mutated_envelopes_raise_nothing_else(kind: int) -> None:
    source = random.Random(kind)
    body = wrap_write(good_write(kind))
    for _ in range(3000):
        mutated = bytearray(body)
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(mutated))
            action = source.randrange(3)
            if action == 0:
                mutated[at] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
            elif action == 1:
                del mutated[at : at + source.randint(1, 3)]
            else:
                mutated[at:at] = source.randbytes(source.randint(1, 3))
            if not mutated:
                break
        try_reading(bytes(mutated))


def test_a_config_nested_beyond_protobufs_depth_raises_nothing_else() -> None:
    payload = b""
    for _ in range(200):
        # ConfigValue.map_value, the entry's value, ConfigMap.values, by hand: the library itself refuses to build it.
        for tag in (0x3A, 0x12, 0x0A):
            payload = bytes([tag]) + varint(len(payload)) + payload
    with pytest.raises(Undecodable):
        decode_write(good_write(START, b"\x22" + varint(len(payload)) + payload))


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
