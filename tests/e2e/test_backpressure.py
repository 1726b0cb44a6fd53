"""What callers are told when the queue is full."""

import pytest

from deploy.servers.processes import wait_until
from tests.e2e.deployment import Deployment
from tests.e2e.load import Load
from tests.e2e.recount import recount


@pytest.mark.timeout(90)
def test_a_full_queue_says_resource_exhausted_with_retry_info_and_loses_nothing(full: Deployment) -> None:
    """Queues of five messages and no consumer: soon every caller is told RESOURCE_EXHAUSTED, with RetryInfo (a bare one
    would end the load). A consumer comes: the retries are taken, and every point is there once."""
    full.migrate()
    full.add("serve", queue_max_messages="5").start()
    with Load(full.addresses, callers=4, runs=2, rows=5, writes=40) as load:
        assert wait_until(lambda: load.failures["RESOURCE_EXHAUSTED", "QUEUE_FULL"] > 20, 30), load.failures
        full.add("consume", queue_max_messages="5").start()
        load.finish()
    assert set(load.failures) == {("RESOURCE_EXHAUSTED", "QUEUE_FULL")}
    recount(full.stub(), load)
