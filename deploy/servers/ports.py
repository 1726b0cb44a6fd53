"""Picks free ports on the loopback interface."""

import random
import socket
import threading
from pathlib import Path

LOOPBACK = "127.0.0.1"

_LOWEST = 15000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_lock = threading.Lock()


def free_port() -> int:
    """A port that nothing listens on and that neither this process nor another living one has been given.

    It lies below the range from which the kernel takes the ports of outgoing connections: while a server is down
    nobody else gets its port, and no client that keeps trying can end up connected to itself.
    """
    highest = _first_ephemeral_port() - 1
    with _lock:
        for _ in range(1000):
            port = random.randint(_LOWEST, highest)  # noqa: S311 - no secret
            if is_free(port) and _claim(port):
                return port
    msg = f"found no free port between {_LOWEST} and {highest}"
    raise OSError(msg)


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier server that have not faded yet are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _claim(port: int) -> bool:
    """Whether nobody had the port before; it is then this process's until that ends, its server up or down."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        # A name without a file: the kernel lets one process have it, and takes it back with the process.
        claim.bind(f"\0tracker-port-{port}")
    except OSError:
        claim.close()
        return False
    claim.detach()
    return True


def _first_ephemeral_port() -> int:
    try:
        first = int(_EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32768
    return first if first > _LOWEST + 1000 else 32768
