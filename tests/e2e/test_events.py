"""Events of completed runs, for other services, on a real RabbitMQ."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pika
import pytest

from deploy.servers.processes import wait_until
from tests.e2e.completions import PATIENT, Completions
from tests.e2e.deployment import Deployment
from tests.e2e.processes import ROOT
from tracker_server.broker.topology import EVENTS

KILLS = 5
QUEUE = "other_service"


@contextmanager
def bound_queue(broker_url: str, key: str) -> Iterator[Any]:
    """A channel with a queue that gets the events."""
    with closing(pika.BlockingConnection(pika.URLParameters(broker_url))) as connection:
        channel = connection.channel()
        channel.exchange_declare(EVENTS, "topic", durable=True)
        channel.queue_declare(QUEUE, durable=True)
        channel.queue_bind(QUEUE, EVENTS, key)
        yield channel


@pytest.mark.timeout(120)
def test_kills_of_the_consumer_lose_no_event(full: Deployment) -> None:
    """Consumers are killed while runs end. Each end is told at least once under its experiment, as it is stored, and
    always with the same id, though a start may be stored after the end."""
    full.start()
    completions = Completions(full.server.address, pause=0)
    key = f"run.completed.{completions.experiment_id}"
    with bound_queue(full.settings["broker_url"], key) as channel, completions:
        for _ in range(KILLS):
            completions.wait_for(10)
            full.consumer.kill()
            completions.wait_for(10)
            full.consumer.start()
        completions.finish()
        events: list[dict[str, Any]] = []

        def all_told() -> bool:
            while (message := channel.basic_get(QUEUE, auto_ack=True))[0] is not None:
                event = json.loads(message[2])
                assert message[1].message_id == event["event_id"]
                events.append(event)
            return {event["run_id"] for event in events} >= set(completions.run_ids)

        told = wait_until(all_told, PATIENT, interval=0.05)
        assert told, set(completions.run_ids) - {event["run_id"] for event in events}
    ids = {event["run_id"]: event["event_id"] for event in events}
    assert len(set(ids.values())) == len(ids)
    for event in events:
        number = completions.run_ids.index(event["run_id"])
        assert event["event_id"] == ids[event["run_id"]]
        assert (event["event"], event["status"], event["attempt"]) == ("run.completed", "COMPLETED", 1)
        assert event["metrics"] == {"number": number}
        assert event["experiment_id"] == completions.experiment_id


@pytest.mark.timeout(120)
def test_the_example_keeps_every_end_once(full: Deployment, tmp_path: Path) -> None:
    """The example of docs/events.md, killed and started again while runs end."""
    full.start()
    url, path = full.settings["broker_url"], tmp_path / "ended_runs.db"
    with _example(url, path) as process:
        # From here on its queue is there: what ends before has nobody to be told.
        process.kill()
    with Completions(full.server.address) as completions:
        for _ in range(2):
            with _example(url, path) as process:
                completions.wait_for(20)
                process.kill()
        completions.wait_for(5)
        completions.finish()
        with _example(url, path) as process:
            assert wait_until(lambda: len(_kept(path)) == len(completions.run_ids), PATIENT, interval=0.05)
            process.terminate()
        assert _kept(path) == [
            (run_id, completions.experiment_id, "COMPLETED", json.dumps({"number": float(number)}))
            for number, run_id in enumerate(completions.run_ids)
        ]


@contextmanager
def _example(url: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(ROOT / "examples" / "run_events.py"), url, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting for events\n"
            yield process
        finally:
            process.kill()


def _kept(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as table:
        rows = table.execute("SELECT run_id, experiment_id, status, metrics FROM ended_runs").fetchall()
    return sorted(rows, key=lambda row: int(row[0].rpartition("-")[2]))
