"""Several processes that write to one run: which of them this one is, and the attempt that all of them share."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tracker_client.settings import Settings

_RANK: Final = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
_WORLD: Final = ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_LOCAL_RANK: Final = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
_NODE: Final = ("GROUP_RANK", "NODE_RANK", "SLURM_NODEID")
_LAUNCH: Final = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_RESTART_COUNT")
"""Together they tell one start of a job from the next."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process stands among those of its job."""

    rank: int = 0
    """From 0 on; rank 0 starts the run and ends it."""
    world: int = 1
    """How many there are."""
    local_rank: int = 0
    """Among those of this machine."""
    node: int = 0
    """Of the machine, from 0 on."""


def find_place(settings: Settings, environment: Mapping[str, str] = os.environ) -> Place:
    """As the launcher's variables say (torchrun, Slurm, MPI), or TRACKER_RANK."""
    rank = settings.rank if settings.rank is not None else _first(environment, _RANK, 0)
    # Who is told its rank is one of several: all of them, rank 0 too, then agree on an attempt.
    least = rank + 1 if settings.rank is None else max(rank + 1, 2)
    world = max(_first(environment, _WORLD, 1), least)
    return Place(rank, world, _first(environment, _LOCAL_RANK, rank), _first(environment, _NODE, 0))


def shared_attempt(directory: Path, run_id: str, place: Place, environment: Mapping[str, str] = os.environ) -> int:
    """The attempt that all ranks of one start on this machine agree on, whichever comes first; no rank waits for another.

    They meet in a file. The ranks of one start have one parent; a rank that comes a second time is of another start.
    Raises OSError.
    """
    meeting = directory / "attempts"
    meeting.mkdir(mode=0o750, parents=True, exist_ok=True)
    launch = [environment.get(name, "") for name in _LAUNCH] + [str(os.getppid())]
    with (meeting / f"{run_id}.json").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        found = _parse(file.read())
        if found is None or found.launch != launch or place.rank in found.ranks:
            # Newer than the one before, whatever the clock says.
            found = _Meeting(launch, max(time.time_ns() // 1_000_000, found.attempt + 1 if found else 0), [])
        found.ranks.append(place.rank)
        file.seek(0)
        file.truncate()
        json.dump(asdict(found), file)
        return found.attempt


@dataclass(slots=True)
class _Meeting:
    """What the file holds."""

    launch: list[str]
    attempt: int
    ranks: list[int]
    """Those that have come."""


def _parse(text: str) -> _Meeting | None:
    try:
        fields = json.loads(text)
        return _Meeting(
            [str(each) for each in fields["launch"]], int(fields["attempt"]), list(map(int, fields["ranks"]))
        )
    except (ValueError, TypeError, KeyError):
        return None  # new, or cut off in the middle of writing


def _first(environment: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    for name in names:
        text = environment.get(name, "")
        if text.isdecimal():
            return int(text)
    return default
