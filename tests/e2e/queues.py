"""The broker's side of things, for tests that look at its queues and put messages there themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pika

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import resources_pb2 as resources
from tracker.v1 import tracker_service_pb2 as public
from tracker_server.partitions import partition_of

PARTITIONS = 8


@contextmanager
def channel(broker_url: str) -> Iterator[Any]:
    """A channel with confirms."""
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    try:
        opened = connection.channel()
        opened.confirm_delivery()
        yield opened
    finally:
        connection.close()


def partition(scope_id: str) -> int:
    """The partition that a run's writes go to."""
    return partition_of(scope_id, PARTITIONS)


def queue_of(scope_id: str) -> str:
    """The queue that a run's writes go to."""
    return f"tracker.ingest.{partition(scope_id)}"


def put(broker_url: str, queue: str, *bodies: bytes, headers: Mapping[str, str | int] | None = None) -> None:
    """Puts messages on a queue, confirmed."""
    properties = pika.BasicProperties(delivery_mode=2, headers=headers)
    with channel(broker_url) as opened:
        for body in bodies:
            opened.basic_publish("", queue, body, properties, mandatory=True)


def waiting(broker_url: str, queue: str) -> int:
    """How many messages a queue holds that nobody has."""
    with channel(broker_url) as opened:
        return int(opened.queue_declare(queue, passive=True).method.message_count)


def points(run_id: str, writer_id: str, sequence: int, **values: float) -> internal.Write:
    """A write with a value per metric, at the step that is its sequence."""
    columns = [resources.MetricColumn(name=name, values=[value]) for name, value in values.items()]
    block = resources.MetricBlock(steps=[sequence], columns=columns)
    return internal.Write(
        kind=internal.WRITE_KIND_LOG_METRICS,
        scope_id=run_id,
        writer_id=writer_id,
        sequence=sequence,
        accepted_at_unix_ms=1_700_000_000_000,
        payload=public.LogMetricsRequest(blocks=[block]).SerializeToString(),
    )


def envelope(*writes: internal.Write, version: int = 1) -> bytes:
    """A message of these writes."""
    return internal.Envelope(version=version, writes=writes).SerializeToString()
