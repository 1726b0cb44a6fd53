"""kill -9 at random moments: what log() had returned for arrives, once."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from tests.e2e.training.jobs import Job, get_run, list_runs, read_points, sender_pids
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

KILLS = 200
AT_A_TIME = 8
LONGEST_LIFE_SECONDS = 0.12
WIDE_EVERY = 20
"""One run in so many logs rows that fill a segment of its journal within its life."""
WIDTH = 100
SLOT = struct.Struct("=q")

# One process imports, and each training process is a fork of it that then begins as if it were alone: importing 200
# times would take a minute. It is told "N" for the next one, and answers with its pid.
_ZYGOTE = f"""
import itertools, mmap, os, signal, sys, time
import tracker_client as tracker
import tracker_client.start

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
noted = memoryview(mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)).cast("q")

def train(number):
    run = tracker.init(sys.argv[2], run_id=f"{{sys.argv[2]}}-{{number}}", capture=False)
    wide = number % {WIDE_EVERY} == 0
    names = [f"m{{i}}" for i in range({WIDTH} if wide else 1)]
    for step in itertools.count() if not wide else range(2500):
        run.log({{name: step * 0.5 + number for name in names}}, step=step)
        # Only what log() has returned for is noted.
        noted[number] = step + 1
        if not wide and step % 10 == 9:
            time.sleep(0.001)
    time.sleep(60)

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        train(int(line))
    print(pid, flush=True)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("senders_too", [False, True], ids=["training", "training-and-senders"])
def test_two_hundred_kills_at_random_moments_lose_nothing_and_double_nothing(
    senders_too: bool, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """200 training processes, several at a time, are killed at random moments of their short lives, in init too; in the
    second round the senders as well. After a sync every point whose log() had returned is there, once, and at most one
    more of each run: the one that was being logged. Every writer that was heard of is closed."""
    prefix = f"kills-{'both' if senders_too else 'training'}"
    kills = KILLS // 2 if senders_too else KILLS
    dice = random.Random(int(senders_too))
    noted_path = tmp_path / "noted"
    noted_path.write_bytes(bytes(SLOT.size * kills))
    job = Job(tmp_path, _ZYGOTE, server=server)
    with killing_senders(job.journals, dice) if senders_too else nullcontext():
        kill_each(job, noted_path, prefix, kills, dice)
    job.sync()
    noted = [count for (count,) in SLOT.iter_unpack(noted_path.read_bytes())]
    assert sum(count > 0 for count in noted) > kills // 2
    check(stub, prefix, noted)


def kill_each(job: Job, noted_path: Path, prefix: str, kills: int, dice: random.Random) -> None:
    """Lets so many processes live and die: one in four a random time after its fork, the others after their first point."""
    zygote = job.start(noted_path, prefix)
    living: dict[int, tuple[int, float]] = {}
    dying: list[tuple[float, int]] = []
    started = 0
    with noted_path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as noted:
        while started < kills or living or dying:
            now = time.monotonic()
            if started < kills and len(living) + len(dying) < AT_A_TIME:
                zygote.tell(started)
                pid, life = int(zygote.line()), dice.uniform(0, LONGEST_LIFE_SECONDS)
                if started % 4:
                    living[started] = pid, life
                else:
                    dying.append((now + life, pid))
                started += 1
            for number in [number for number in living if SLOT.unpack_from(noted, number * SLOT.size)[0]]:
                pid, life = living.pop(number)
                dying.append((now + life, pid))
            for due in [one for one in dying if one[0] <= now]:
                dying.remove(due)
                os.kill(due[1], signal.SIGKILL)
            time.sleep(0.001)
    ended = zygote.wait()
    assert (ended.code, ended.errors) == (0, "")


@contextmanager
def killing_senders(journals: Path, dice: random.Random) -> Iterator[None]:
    """Kills the senders of a directory at random moments meanwhile, and at least one."""
    over = threading.Event()
    killed = []

    def kill() -> None:
        while not over.wait(dice.uniform(0.1, 0.8)):
            for pid in sender_pids(journals):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert killed


def check(stub: TrackerServiceStub, prefix: str, noted: list[int]) -> None:
    """Counts every point."""
    known = list_runs(stub, prefix)
    unknown = [number for number, count in enumerate(noted) if count and f"{prefix}-{number}" not in known]
    problems = [f"nothing of run {number} has arrived" for number in unknown]
    for wide in (False, True):
        numbers = [number for number in range(len(noted)) if f"{prefix}-{number}" in known]
        numbers = [number for number in numbers if (number % WIDE_EVERY == 0) == wide]
        runs = [f"{prefix}-{number}" for number in numbers]
        names = [f"m{i}" for i in range(WIDTH if wide else 1)]
        found = read_points(stub, runs, names)
        for number, run in zip(numbers, runs, strict=True):
            for name in names:
                points = found[run, name]
                right = [(step, step * 0.5 + number) for step in range(len(points))]
                if points != right or not noted[number] <= len(points) <= noted[number] + 1:
                    problems.append(f"{run} {name}: {len(points)} points, {noted[number]} logged")
            if noted[number]:
                answer = get_run(stub, run)
                if not answer.completeness.complete or len(answer.completeness.writers) != 1:
                    problems.append(f"{run}: {answer.completeness}")
    assert not problems, "\n".join(problems[:20])
