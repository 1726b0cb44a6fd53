"""What each part of the full form costs: CPU seconds, and bytes written, between two looks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from benchmarks.forms import Form


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one part."""

    cpu_seconds: float
    written_bytes: int

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.cpu_seconds - other.cpu_seconds, self.written_bytes - other.written_bytes)


def costs(form: Form) -> Mapping[str, Cost]:
    """So far, by part: server, consumer, RabbitMQ, Redis, PostgreSQL."""
    parts = {"server": form.deployment.server.pid, "consumer": form.deployment.consumer.pid}
    parts |= {name: server.pid for name, server in form.servers.items()}
    return {name: _of(psutil.Process(pid)) for name, pid in parts.items()}


def _of(process: psutil.Process) -> Cost:
    """With its children, those that have ended included."""
    seconds, written = 0.0, 0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            seconds += times.user + times.system
            if one is process:
                seconds += times.children_user + times.children_system
            written += one.io_counters().write_bytes
    return Cost(seconds, written)
