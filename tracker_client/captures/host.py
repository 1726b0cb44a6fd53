"""The machine: name, operating system, processors, memory, graphics cards."""

from __future__ import annotations

import os
import platform
import socket
from collections import Counter
from pathlib import Path

_PROC = Path("/proc")


def capture_host() -> dict[str, str]:
    """Keys host.name, host.os, host.kernel, host.architecture, host.cpu_model, host.cpu_count, host.cpu_usable (by
    this process), host.memory_bytes, host.gpus. What the system does not tell is left out.
    """
    facts = {
        "host.name": socket.gethostname(),
        "host.os": _system(),
        "host.kernel": platform.release(),
        "host.architecture": platform.machine(),
        "host.cpu_model": _cpu_model(),
        "host.cpu_count": str(os.cpu_count() or ""),
        "host.cpu_usable": str(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else "",
        "host.memory_bytes": _memory(),
        "host.gpus": _gpus(),
    }
    return {key: value for key, value in facts.items() if value}


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.version()}"


def _cpu_model() -> str:
    try:
        with (_PROC / "cpuinfo").open(errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    return ""


def _memory() -> str:
    try:
        return str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return ""


def _gpus() -> str:
    """Such as `8 x NVIDIA A100-SXM4-80GB`. From the driver's own files, since its library may take seconds to start."""
    models: Counter[str] = Counter()
    for path in sorted(_PROC.glob("driver/nvidia/gpus/*/information")):
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == "Model":
                models[value.strip()] += 1
    return ", ".join(f"{count} x {model}" for model, count in models.items())
