"""Origins: the writer and sequence of each point, small, and back exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_server.model.origins import decode_origins, encode_slices
from tracker_server.model.points import Source

numbers = {"v": 1, "w": 200, "x": 2**31 - 1}
sources = st.lists(
    st.builds(
        Source,
        st.sampled_from(sorted(numbers)),
        st.integers(1, 12) | st.sampled_from([2**62, 2**62 + 1, 2**63 - 1]),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=12,
)


@given(sources, st.integers(0, 2**32), st.booleans(), st.integers(1, 9))
def test_origins_come_back_in_order_for_every_slice(
    given_sources: list[Source], seed: int, moved: bool, width: int
) -> None:
    total = sum(source.points for source in given_sources)
    order = np.random.default_rng(seed).permutation(total).astype(np.int64) if moved else None
    slices = [(start, min(start + width, total)) for start in range(0, total, width)]
    expected = [(numbers[s.writer_id], s.sequence) for s in given_sources for _ in range(s.points)]
    if order is not None:
        expected = [expected[at] for at in order.tolist()]
    encoded = encode_slices(given_sources, order, numbers, slices)
    for (start, stop), data in zip(slices, encoded, strict=True):
        writers, sequences = decode_origins(data)
        assert list(zip(writers.tolist(), sequences.tolist(), strict=True)) == expected[start:stop]


def test_a_whole_batch_of_one_write_is_a_few_bytes() -> None:
    (data,) = encode_slices([Source("v", 7, 4096)], None, numbers, [(0, 4096)])
    assert len(data) <= 5


def test_single_points_sent_one_by_one_are_a_few_bytes() -> None:
    (data,) = encode_slices([Source("v", n, 1) for n in range(1, 1001)], None, numbers, [(0, 1000)])
    assert len(data) <= 6


@pytest.mark.parametrize("data", [b"\x01", b"\x01\x02", b"\x01\x02\x03\x04"])
def test_cut_off_origins_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="zip"):
        decode_origins(data)
