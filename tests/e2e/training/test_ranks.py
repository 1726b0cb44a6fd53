"""Several processes of one run: eight ranks, started three times, killed at random."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from deploy.servers.processes import wait_until
from tests.e2e.training.jobs import Job, Running, get_run, read_points
from tracker.v1 import resources_pb2 as data
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

RANKS = 8
FIRST_STEPS = (0, 40, 25)
"""Of each start: it goes back to a checkpoint, the last one further than the one before."""
LAST_STEP = 150
_RANK = """
import mmap, os, sys, time
import tracker_client as tracker

start, first, last, number, noted_path = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
noted = memoryview(mmap.mmap(os.open(noted_path, os.O_RDWR), 0)).cast("q")
run = tracker.init("ranks", capture=False)
for step in range(first, last):
    value = start * 1e6 + number * 1e4 + step
    run.log({"loss": value, f"rank{number}": value}, step=step)
    noted[start * 8 + number] = step + 1
    time.sleep(0.002)
if last == 150:
    run.finish()
else:
    print("waits to be killed", flush=True)
    time.sleep(60)
"""
Point = tuple[int, float]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("told", [True, False], ids=["TRACKER_ATTEMPT", "a file where they meet"])
def test_the_newest_attempt_counts_from_its_first_step_on_and_earlier_ones_before_it(
    told: bool, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """Eight ranks log a series of each one's own and one that all share. Two starts are killed, each rank at a random
    moment, its init included; the third one completes. Per series, the newest attempt's points are there from its first
    step on, the earlier ones' before it, every point once, and the attempts are three."""
    dice = random.Random(told)
    run_id = f"ranks-{'told' if told else 'met'}"
    noted_path = tmp_path / "noted"
    noted_path.write_bytes(bytes(8 * RANKS * len(FIRST_STEPS)))
    job = Job(tmp_path, _RANK, server=server, run_id=run_id)
    for start, first in enumerate(FIRST_STEPS):
        final = start == len(FIRST_STEPS) - 1
        settings = {"TRACKER_ATTEMPT": str(start + 1)} if told else {}
        ranks = [
            job.start(
                start,
                first,
                LAST_STEP if final else LAST_STEP - 1,
                rank,
                noted_path,
                environment={"RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_RANK": str(rank), **settings},
            )
            for rank in range(RANKS)
        ]
        if not final:
            kill_in_any_order(ranks, dice, partial(read_noted_of, noted_path, start))
        for rank in ranks:
            ended = rank.wait()
            assert ended.errors == "", ended
            assert not final or ended.code == 0
    job.sync()
    check(stub, run_id, read_noted(noted_path))


def read_noted(path: Path) -> list[list[int]]:
    """By start and rank, one more than the last step whose log() has returned; 0 when there is none."""
    noted = memoryview(path.read_bytes()).cast("q").tolist()
    return [noted[start * RANKS : (start + 1) * RANKS] for start in range(len(FIRST_STEPS))]


def kill_in_any_order(ranks: list[Running], dice: random.Random, noted: Callable[[], list[int]]) -> None:
    """Kills two of them perhaps before they have begun, and the others once all of those have logged something."""
    early, *others = dice.sample(range(RANKS), RANKS - 1)
    for rank in (early, *set(range(RANKS)).difference(others, [early])):
        time.sleep(dice.uniform(0, 0.3))
        ranks[rank].process.kill()
    assert wait_until(lambda: all(noted()[rank] for rank in others), 20)
    for rank in others:
        time.sleep(dice.uniform(0, 0.05))
        ranks[rank].process.kill()


def read_noted_of(path: Path, start: int) -> list[int]:
    """Of one start."""
    return read_noted(path)[start]


def check(stub: TrackerServiceStub, run_id: str, counts: list[list[int]]) -> None:
    """Every point against what was noted."""
    answer = get_run(stub, run_id)
    assert answer.run.status == data.RUN_STATUS_COMPLETED
    assert answer.completeness.complete, answer.completeness
    assert len(answer.attempts) == len(FIRST_STEPS), answer.attempts
    names = ["loss", *(f"rank{rank}" for rank in range(RANKS))]
    found = read_points(stub, [run_id], names)
    problems = []
    for name in names:
        ranks = range(RANKS) if name == "loss" else [int(name[4:])]
        least, most = expected(counts, ranks)
        points = found[run_id, name]
        if len(set(points)) != len(points):
            problems.append(f"{name}: points that are there twice")
        if not least <= set(points) <= most:
            lost, strange = sorted(least - set(points))[:5], sorted(set(points) - most)[:5]
            problems.append(f"{name}: lost {lost}, should not be there {strange}")
        if [step for step, _ in points] != sorted(step for step, _ in points):
            problems.append(f"{name}: steps go back")
    assert not problems, "\n".join(problems)


def expected(counts: list[list[int]], ranks: range | list[int]) -> tuple[set[Point], set[Point]]:
    """The points that must be there, and those that may: a row being logged when the kill came is there or not."""
    least: set[Point] = set()
    most: set[Point] = set()
    cut = cut_if_less = 2**62
    for start in reversed(range(len(counts))):
        first = FIRST_STEPS[start]
        for rank in ranks:
            count = counts[start][rank] or first
            value = start * 1e6 + rank * 1e4
            least |= {(step, value + step) for step in range(first, count) if step < cut_if_less}
            most |= {(step, value + step) for step in range(first, count + 1) if step < cut and step < LAST_STEP}
        if any(counts[start][rank] for rank in ranks):
            cut = min(cut, first)
        # A start of which nothing is noted may have logged its first row.
        cut_if_less = min(cut_if_less, first)
    return least, most
