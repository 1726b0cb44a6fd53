"""What /proc tells of processes: who they are, who descends from whom; and signals to whole trees of them."""

import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Identity:
    """A process, told apart from any later one that happens to get its pid."""

    pid: int
    started: int
    boot: str

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return identify(self.pid) == self


@dataclass(frozen=True)
class _Status:
    parent: int
    started: int
    state: str


def identify(pid: int) -> Identity | None:
    """The identity of a running process, or None when there is none (a zombie counts as none)."""
    status = _status(pid)
    if status is None or status.state in "ZX":
        return None
    return Identity(pid, status.started, _BOOT_ID.read_text().strip())


def descendants(pid: int) -> list[int]:
    """All running descendants of a process, parents before their children."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir(_PROC):  # noqa: PTH208 - the names are all that is wanted
        if entry.isdigit():
            status = _status(int(entry))
            if status is not None and status.state not in "ZX":
                children[status.parent].append(int(entry))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        of_parent = children.get(waiting.pop(0), [])
        found += of_parent
        waiting += of_parent
    return found


def signal_tree(pid: int, number: signal.Signals) -> int:
    """Send a signal to all descendants of a process, parents first; returns how many there were."""
    tree = descendants(pid)
    for member in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, number)
    return len(tree)


def stopped(pid: int) -> bool:
    """Whether a process is held by SIGSTOP (one that is gone counts as held)."""
    status = _status(pid)
    return status is None or status.state in "TtZX"


def wait_until(condition: Callable[[], bool], seconds: float, interval: float = 0.01) -> bool:
    """Poll a condition until it holds (True) or the time is over (False)."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


def _status(pid: int) -> _Status | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets and may itself hold spaces and brackets.
    fields = text[text.rindex(")") + 2 :].split()
    return _Status(parent=int(fields[1]), started=int(fields[19]), state=fields[0])
