"""Processors and memory as Linux shows them in /proc, for images without psutil."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tracker_client.captures.usage import Usage


def read_procfs(pid: int, proc: Path = Path("/proc")) -> Usage:
    """One reading. Raises OSError or ValueError where /proc is missing or says something else."""
    ticks = os.sysconf("SC_CLK_TCK")
    # user nice system idle iowait irq softirq steal; guests' time behind them is part of user and nice already.
    times = [int(word) / ticks for word in (proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    memory = dict(_memory_line(line) for line in (proc / "meminfo").read_text().splitlines())
    # The name of the program, in brackets, may have spaces and brackets of its own.
    fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    total = sum(times)
    return Usage(
        at=time.monotonic(),
        levels={
            "memory_percent": 100 * (1 - memory["MemAvailable"] / memory["MemTotal"]),
            "memory_available_bytes": memory["MemAvailable"],
            "process_memory_bytes": int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
            "process_threads": int(fields[17]),
        },
        cpu_busy=total - times[3] - times[4],
        cpu_total=total,
        process_cpu=(int(fields[11]) + int(fields[12])) / ticks,
    )


def _memory_line(line: str) -> tuple[str, int]:
    name, _, rest = line.partition(":")
    return name, int(rest.split()[0]) * (1024 if rest.endswith("kB") else 1)
