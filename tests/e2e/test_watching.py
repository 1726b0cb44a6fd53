"""Watching runs through what happens to processes: nothing is missed, nothing is given twice."""

import random

import pika
import pytest

from tests.e2e.completions import Completions, WatchingThread
from tests.e2e.deployment import Deployment
from tracker_server.broker.topology import CHANGES

KILLS = 3
LOOK_SECONDS = 12
"""In which a server finds by itself what nobody told it of."""


@pytest.mark.timeout(120)
def test_kills_of_the_server_make_no_watcher_miss_a_completion(deployment: Deployment) -> None:
    """The server (embedded: the one process) is killed while runs end, and started again; the watcher's client goes on
    by itself, and sees every end once."""
    dice = random.Random(3)
    server = deployment.server
    with (
        Completions(server.address) as completions,
        WatchingThread(server.address, completions.experiment_id) as watcher,
    ):
        for _ in range(KILLS):
            completions.wait_for(dice.randrange(5, 40))
            server.kill()
            server.start()
        completions.wait_for(10)
        completions.finish()
        watcher.wait_for(completions.run_ids)


@pytest.mark.timeout(120)
def test_every_server_serves_its_watchers_and_a_killed_consumer_makes_none_miss_a_completion(full: Deployment) -> None:
    """Three servers, of which one takes the writes; the consumer is killed while runs end."""
    full.start(servers=3)
    first, second, third = full.addresses
    with (
        Completions(first) as completions,
        WatchingThread(second, completions.experiment_id) as one,
        WatchingThread(third, completions.experiment_id) as other,
    ):
        for _ in range(KILLS):
            completions.wait_for(10)
            full.consumer.kill()
            completions.wait_for(5)
            full.consumer.start()
        completions.finish()
        one.wait_for(completions.run_ids)
        other.wait_for(completions.run_ids)


@pytest.mark.timeout(120)
def test_a_server_that_is_told_nothing_finds_changes_by_itself(full: Deployment) -> None:
    """The exchange of the notices is deleted, and with it the binding of the server's queue."""
    full.start()
    address = full.server.address
    with Completions(address, pause=0.5) as completions, WatchingThread(address, completions.experiment_id) as watcher:
        completions.wait_for(1)
        connection = pika.BlockingConnection(pika.URLParameters(full.settings["broker_url"]))
        connection.channel().exchange_delete(CHANGES)
        connection.close()
        completions.wait_for(4)
        completions.finish()
        watcher.wait_for(completions.run_ids, LOOK_SECONDS)
