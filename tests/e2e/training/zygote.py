"""Many training processes in a short time: one process imports, and each of them is a fork of it.

Each then begins as if it were alone; importing hundreds of times would take minutes.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import struct
import time
from pathlib import Path

from tests.e2e.training.jobs import Job
from tracker_client.exits import PREEMPTED_SECONDS

AT_A_TIME = 8
ENDING_SECONDS = 2.0
"""Beyond PREEMPTED_SECONDS, which the client gives itself: for Python to end, on a machine that is shared by all of these."""
LONGEST_LIFE_SECONDS = 0.12
_STUCK_SECONDS = 60.0
_SLOT = struct.Struct("=q")
_WHOLE = """
import gc, itertools, json, mmap, os, signal, sys, time
import tracker_client as tracker
import tracker_client.start

noted = memoryview(mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)).cast("q")
experiment = sys.argv[2]

{train}

ends = {{}}
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        train(int(line))
        # Not one long sleep: a signal that comes just before it begins would have to wait for its end.
        while True:
            time.sleep(0.05)
    ends[pid] = None
    print(pid, flush=True)
for pid in ends:
    ends[pid] = os.waitpid(pid, 0)[1]
print(json.dumps(sorted(set(ends.values()))))
"""


def zygote_script(train: str) -> str:
    """The script. train: defines `train(number)`, which logs to the run f"{experiment}-{number}", and sets noted[number]
    to one more than the step whose log() has returned."""
    return _WHOLE.format(train=train)


def end_each(job: Job, experiment: str, count: int, number: int, dice: random.Random) -> list[int]:
    """Lets so many processes live, a few at a time, and sends each a signal: one in four a random time after its fork,
    the others after their first point; each has to end in the time that the client gives itself. Returns what each has
    noted."""
    path = job.directory / "noted"
    path.write_bytes(bytes(_SLOT.size * count))
    zygote = job.start(path, experiment)
    living: dict[int, tuple[int, float]] = {}
    dying: list[tuple[float, int]] = []
    ending: dict[int, float] = {}
    slowest = 0.0
    started = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as noted:
        while started < count or living or dying or ending:
            now = time.monotonic()
            if started < count and len(living) + len(dying) < AT_A_TIME:
                zygote.tell(started)
                pid, life = int(zygote.line()), dice.uniform(0, LONGEST_LIFE_SECONDS)
                if started % 4:
                    living[started] = pid, life
                else:
                    dying.append((now + life, pid))
                started += 1
            for run in [run for run in living if _SLOT.unpack_from(noted, run * _SLOT.size)[0]]:
                pid, life = living.pop(run)
                dying.append((now + life, pid))
            for due in [one for one in dying if one[0] <= now]:
                dying.remove(due)
                os.kill(due[1], number)
                ending[due[1]] = time.monotonic()
            # Whose end the zygote has not asked for yet.
            for pid in [pid for pid in ending if _state(pid) == "Z"]:
                slowest = max(slowest, time.monotonic() - ending.pop(pid))
            assert all(now - since < _STUCK_SECONDS for since in ending.values()), f"{list(ending)} do not end"
            time.sleep(0.001)
    ended = zygote.wait()
    # Nothing else may be said: that the time was over, and what is left, is what the client promises then.
    assert (ended.code, ended.errors.count("\n")) == (0, ended.errors.count("there was not enough time")), ended
    assert json.loads(ended.output) == [number], ended
    assert slowest < PREEMPTED_SECONDS + ENDING_SECONDS
    return read_noted(path)


def _state(pid: int) -> str:
    """A process's state, as the kernel says it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def read_noted(path: Path) -> list[int]:
    """What the processes have noted."""
    return [count for (count,) in _SLOT.iter_unpack(path.read_bytes())]
