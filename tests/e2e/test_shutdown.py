"""SIGTERM under load: what is in flight finishes or fails in a way that says "try again", and the exit code is 0."""

import pytest

from tests.e2e.deployment import Deployment
from tests.e2e.load import Load
from tests.e2e.processes import Tracker
from tests.e2e.recount import recount

GRACE_SECONDS = 10.0
SLACK_SECONDS = 3.0
"""For a busy machine; and a process has to come to its end after the grace."""


@pytest.mark.timeout(120)
def test_sigterm_of_the_server_under_load(deployment: Deployment) -> None:
    """The server (embedded: the one process) is asked to end under load, twice. It ends with exit code 0 within the
    grace; callers saw nothing but OK and UNAVAILABLE. Started again on the same data, it has every acknowledged
    point, once."""
    server = deployment.server
    with Load(deployment.addresses, callers=6, runs=4, rows=20) as load:
        for _ in range(2):
            load.wait_acknowledged(100)
            end_well(server)
            server.start()
        load.wait_acknowledged(20)
        load.finish()
    assert {code for code, _ in load.failures} == {"UNAVAILABLE"}, load.failures
    recount(deployment.stub(), load)


@pytest.mark.timeout(120)
def test_sigterm_of_the_consumer_under_load(full: Deployment) -> None:
    """The consumer is asked to end under load, three times. It ends with exit code 0 within the grace and leaves no
    complaint; writers notice nothing; a next one goes on where it stopped, without anything delivered again."""
    full.start()
    consumer = full.consumer
    with Load(full.addresses, callers=4, runs=8, rows=20, pause=0.02) as load:
        for _ in range(3):
            load.wait_acknowledged(100)
            end_well(consumer)
            assert "not everything was flushed" not in consumer.log
            load.wait_acknowledged(20)
            consumer.start()
        load.finish()
    assert not load.failures
    recount(full.stub(), load)


def end_well(tracker: Tracker) -> None:
    """SIGTERM, and 0 within the grace."""
    tracker.terminate()
    code = tracker.wait(GRACE_SECONDS + SLACK_SECONDS)
    assert code == 0, tracker.describe(f"ended with {code}")
    assert "Traceback" not in tracker.log, tracker.describe("complained")
