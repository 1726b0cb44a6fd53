"""What the machine and the process use while a run runs, as metrics under system/."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from tracker_client.captures.gpus import Gpus
from tracker_client.captures.procfs import read_procfs
from tracker_client.captures.usage import Usage, rates, shares

PREFIX = "system/"


class SystemSampler:
    """Takes samples. Not for several threads at once.

    With psutil (extra `system`) of processors, memory, disks and network; without it, on Linux, of processors and
    memory; with nvidia-ml-py (same extra) of the NVIDIA GPUs that the process may see.
    """

    def __init__(self, pid: int | None = None, *, disk: str = ".") -> None:
        """pid: the process to watch; None: the calling one. disk: a path on the file system to watch."""
        self._pid = os.getpid() if pid is None else pid
        self._disk = disk
        self._read: Callable[[int, str], Usage] | None = None
        self._gpus: Gpus | None = None
        self._last: Usage | None = None

    def sample(self) -> dict[str, float]:
        """Names, all under system/, to values; empty where nothing can be known. Never raises, and takes a few
        milliseconds (the first call more: it imports psutil and starts NVIDIA's library).

        Percentages of the process count 100 for each processor that it keeps busy, those of the machine 100 for all.
        Shares and rates are over the time since the sample before, so the first sample has none.
        """
        values: dict[str, float] = {}
        usage = self._usage()
        if usage is not None:
            values |= usage.levels
            if self._last is not None:
                values |= shares(self._last, usage) | rates(self._last, usage)
            self._last = usage
        if self._gpus is None:
            self._gpus = Gpus()
        values |= self._gpus.sample()
        return {f"{PREFIX}{name}": float(value) for name, value in values.items()}

    def _usage(self) -> Usage | None:
        if self._read is None:
            self._read = _reader()
        try:
            return self._read(self._pid, self._disk)
        except Exception:  # noqa: BLE001  # the process may be gone, or the system say less than elsewhere
            return None


def _reader() -> Callable[[int, str], Usage]:
    try:
        import psutil
    except Exception:  # noqa: BLE001  # absent, or broken in this image
        return lambda pid, _: read_procfs(pid)
    return lambda pid, disk: _read_psutil(psutil, pid, disk)


def _read_psutil(psutil: Any, pid: int, disk: str) -> Usage:
    cpu = psutil.cpu_times()
    memory = psutil.virtual_memory()
    process = psutil.Process(pid)
    with process.oneshot():
        used = process.cpu_times()
        levels = {
            "memory_percent": memory.percent,
            "memory_available_bytes": memory.available,
            "process_memory_bytes": process.memory_info().rss,
            "process_threads": process.num_threads(),
        }
    levels |= _optional(lambda: {"disk_used_percent": psutil.disk_usage(disk).percent})
    idle = cpu.idle + getattr(cpu, "iowait", 0.0)
    # Time of guests is part of user and nice already.
    total = sum(cpu) - getattr(cpu, "guest", 0.0) - getattr(cpu, "guest_nice", 0.0)
    return Usage(
        at=time.monotonic(),
        levels=levels,
        cpu_busy=total - idle,
        cpu_total=total,
        process_cpu=used.user + used.system,
        counters=_optional(lambda: _disks(psutil.disk_io_counters()))
        | _optional(lambda: _network(psutil.net_io_counters()))
        | _optional(lambda: _process_io(process.io_counters())),
    )


def _disks(counters: Any) -> Mapping[str, float]:
    return {"disk_read_bytes": counters.read_bytes, "disk_write_bytes": counters.write_bytes}


def _network(counters: Any) -> Mapping[str, float]:
    return {"network_sent_bytes": counters.bytes_sent, "network_received_bytes": counters.bytes_recv}


def _process_io(counters: Any) -> Mapping[str, float]:
    return {"process_disk_read_bytes": counters.read_bytes, "process_disk_write_bytes": counters.write_bytes}


def _optional(read: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """What some systems do not have, or do not show to everyone."""
    try:
        return dict(read())
    except Exception:  # noqa: BLE001  # each system has its own error for it
        return {}
