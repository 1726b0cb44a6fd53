"""Another service: keeps a table of ended runs, from the events that the tracker publishes. See docs/events.md.

python examples/run_events.py amqp://user:password@host:port/vhost ended_runs.db
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from contextlib import closing
from typing import Any

import pika
from pika.exceptions import AMQPError

EXCHANGE = "tracker.events"
QUEUE = "run_events"
BINDING = "run.completed.#"
PREFETCH = 100
"""Events that may be under way here, not acknowledged yet."""
PAUSE_SECONDS = 1.0
"""Before it connects again."""


def keep(table: sqlite3.Connection, event: dict[str, Any]) -> bool:
    """Writes an event into the table; False: it was there already. Events come at least once, so each may come again."""
    with table:
        added = table.execute(
            "INSERT INTO ended_runs VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                event["event_id"],
                event["run_id"],
                event["experiment_id"],
                event["status"],
                event["timestamp"],
                json.dumps(event["metrics"]),
            ),
        )
    return added.rowcount == 1


def consume(url: str, table: sqlite3.Connection) -> None:
    """Keeps what comes, until the connection is lost. Raises AMQPError."""
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        # As the tracker declares it, so that either may be there first.
        channel.exchange_declare(EXCHANGE, "topic", durable=True)
        channel.queue_declare(QUEUE, durable=True)
        channel.queue_bind(QUEUE, EXCHANGE, BINDING)
        channel.basic_qos(prefetch_count=PREFETCH)
        print("waiting for events", flush=True)
        for method, _, body in channel.consume(QUEUE):
            event = json.loads(body)
            if keep(table, event):
                print(f"{event['run_id']} {event['status']} {event['metrics']}", flush=True)
            # After the work is done: killed before, it is done again, and found done.
            channel.basic_ack(method.delivery_tag)


def main() -> None:
    """Runs until Ctrl-C."""
    url, path = sys.argv[1:]
    with closing(sqlite3.connect(path)) as table:
        table.execute(
            "CREATE TABLE IF NOT EXISTS ended_runs "
            "(event_id TEXT PRIMARY KEY, run_id TEXT, experiment_id TEXT, status TEXT, ended_at TEXT, metrics TEXT)"
        )
        while True:
            try:
                consume(url, table)
            except AMQPError as error:
                print(f"no connection ({type(error).__name__}); trying again", file=sys.stderr, flush=True)
                time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
