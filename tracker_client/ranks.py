"""Several processes that write to one run: which of them this one is, and the attempt that all of them share."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tracker_client.journal.folder import take_lock_patiently
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

    They meet in a file. The ranks of one start have one parent. A rank that comes a second time is of another start, and
    so is one that comes when all that had come are gone without having completed.

    Raises OSError.
    """
    launch = [environment.get(name, "") for name in _LAUNCH] + [str(os.getppid())]
    with _meeting(directory, run_id) as path:
        found = _read(path)
        if found is None or found.launch != launch or str(place.rank) in found.ranks or found.deserted:
            # Newer than the one before, whatever the clock says.
            found = _Meeting(launch, max(time.time_ns() // 1_000_000, found.attempt + 1 if found else 0), {})
        found.ranks[str(place.rank)] = f"{os.getpid()} {_started(os.getpid())}"
        path.write_text(json.dumps(asdict(found)), encoding="utf-8")
        return found.attempt


def leave_completed(directory: Path, run_id: str, place: Place, attempt: int) -> None:
    """Says that this rank has completed: one of the same start that comes later still belongs to it. Raises OSError."""
    with _meeting(directory, run_id) as path:
        found = _read(path)
        if found is not None and found.attempt == attempt:
            found.ranks[str(place.rank)] = _COMPLETED
            path.write_text(json.dumps(asdict(found)), encoding="utf-8")


@dataclass(slots=True)
class _Meeting:
    """What the file holds."""

    launch: list[str]
    attempt: int
    ranks: dict[str, str]
    """Those that have come: each with its process, or that it has completed."""

    @property
    def deserted(self) -> bool:
        """Whether nobody is left of those that have come, and nobody has completed."""
        return not any(said == _COMPLETED or _lives(said) for said in self.ranks.values())


_COMPLETED: Final = "completed"
_LOCK_TRIES: Final = 100


@contextmanager
def _meeting(directory: Path, run_id: str) -> Iterator[Path]:
    """The file, for one process at a time. Raises OSError, after two seconds at most."""
    attempts = directory / "attempts"
    attempts.mkdir(mode=0o750, parents=True, exist_ok=True)
    lock = take_lock_patiently(attempts / f"{run_id}.lock", _LOCK_TRIES)
    if lock is None:
        raise OSError(f"{attempts / run_id}.lock is held by another process")
    try:
        yield attempts / f"{run_id}.json"
    finally:
        os.close(lock)


def _read(path: Path) -> _Meeting | None:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        ranks = {str(rank): str(said) for rank, said in dict(fields["ranks"]).items()}
        return _Meeting([str(each) for each in fields["launch"]], int(fields["attempt"]), ranks)
    except (OSError, ValueError, TypeError, KeyError):
        return None  # new, or cut off in the middle of writing


def _lives(process: str) -> bool:
    pid, _, started = process.partition(" ")
    return pid.isdecimal() and _started(int(pid)) == started


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks: tells it from a later one of the same number. Empty: there is none."""
    try:
        # Behind the name, which is in parentheses and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    # One that nobody has waited for yet is there no more.
    return "" if fields[0] in "ZX" else fields[19]


def _first(environment: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    for name in names:
        text = environment.get(name, "")
        if text.isdecimal():
            return int(text)
    return default
