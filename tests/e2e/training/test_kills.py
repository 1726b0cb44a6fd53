"""kill -9 at random moments: what log() had returned for arrives, once."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from tests.e2e.training.jobs import Job, get_run, list_runs, read_points, sender_pids
from tests.e2e.training.zygote import end_each, zygote_script
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

KILLS = 200
WIDE_EVERY = 20
"""One run in so many logs rows that fill a segment of its journal within its life."""
WIDTH = 100

_TRAIN = f"""
def train(number):
    run = tracker.init(experiment, run_id=f"{{experiment}}-{{number}}", capture=False)
    wide = number % {WIDE_EVERY} == 0
    names = [f"m{{i}}" for i in range({WIDTH} if wide else 1)]
    for step in itertools.count() if not wide else range(2500):
        run.log({{name: step * 0.5 + number for name in names}}, step=step)
        # Only what log() has returned for is noted.
        noted[number] = step + 1
        if not wide and step % 10 == 9:
            time.sleep(0.001)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("senders_too", [False, True], ids=["training", "training-and-senders"])
def test_two_hundred_kills_at_random_moments_lose_nothing_and_double_nothing(
    senders_too: bool, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """200 training processes, several at a time, are killed at random moments of their short lives, in init too; in a
    second round of 100 the senders as well. After a sync every point whose log() had returned is there, once, and at
    most one more of each run: the one that was being logged. Every writer that was heard of is closed."""
    experiment = f"kills-{'both' if senders_too else 'training'}"
    dice = random.Random(int(senders_too))
    job = Job(tmp_path, zygote_script(_TRAIN), server=server)
    with killing_senders(job.journals, dice) if senders_too else nullcontext():
        noted = end_each(job, experiment, KILLS // 2 if senders_too else KILLS, signal.SIGKILL, dice)
    job.sync()
    assert sum(count > 0 for count in noted) > len(noted) // 2
    check(stub, experiment, noted)


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
