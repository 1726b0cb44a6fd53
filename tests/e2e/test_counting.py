"""Every point once: many callers at the same time, in both forms."""

import pytest

from tests.e2e.deployment import Deployment
from tests.e2e.load import Load
from tests.e2e.recount import recount

POINTS = 200_000


@pytest.mark.timeout(120)
def test_200_000_points_of_8_callers_are_read_back_once_in_order_with_their_values(calm: Deployment) -> None:
    """8 callers log 5 metrics in 4 runs, by blocks and point by point, every eleventh write twice. All points are then
    read back in pages and compared bit by bit; GetRun and GetSummary are compared with a plain recomputation."""
    with Load(calm.addresses, callers=8, runs=4, metrics=5, rows=100, writes=63) as load:
        load.finish()
    assert not load.failures
    assert recount(calm.stub(), load, page_size=30_000) >= POINTS
