"""The process: Python, command line, working directory, and what the launcher of the job told it."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracker_client.captures.urls import without_credentials

LAUNCHER_VARIABLES = (
    # torchrun and the like
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
    # Slurm
    *("SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_JOB_PARTITION", "SLURM_JOB_NODELIST", "SLURM_NNODES", "SLURM_NTASKS"),
    *("SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"),
    *("SLURM_RESTART_COUNT", "SLURM_CLUSTER_NAME"),
    # PBS, LSF, Grid Engine, MPI, Ray
    *("PBS_JOBID", "LSB_JOBID", "JOB_ID", "SGE_TASK_ID", "RAY_JOB_ID"),
    *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE"),
    # what the process may see
    *("CUDA_VISIBLE_DEVICES", "CONDA_DEFAULT_ENV"),
)
"""The only environment variables that are recorded; others may hold secrets."""
_HIDDEN = "***"
_SECRET = re.compile(
    r"--?(?:[\w.-]*[-_.])?(?:token|secret|password|passwd|passphrase|credentials|apikey|(?:api|access|secret)[-_.]?key)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class ProcessFacts:
    """What only the process itself knows: taken there, so that another process can do the rest."""

    pid: int
    command: Sequence[str]
    """As it was started, interpreter and its options included."""
    executable: str
    """The Python interpreter."""
    working_directory: str
    """Empty when it has been deleted."""
    script: str
    """The program's file, absolute. Empty for `python -c` and an interactive Python."""
    import_path: Sequence[str]
    """Where it looks for modules."""
    variables: Mapping[str, str]
    """Those of LAUNCHER_VARIABLES that are set."""

    @property
    def source_directories(self) -> tuple[Path, ...]:
        """Where its code may be under version control: beside the program, else where it was started."""
        places = (str(Path(self.script).parent) if self.script else "", self.working_directory)
        return tuple(Path(place) for place in places if place)


def this_process() -> ProcessFacts:
    """Of the calling process. Costs some ten microseconds, and never raises."""
    try:
        working_directory = str(Path.cwd())
    except OSError:
        working_directory = ""
    script = Path(working_directory, sys.argv[0]) if sys.argv and sys.argv[0] not in ("", "-", "-c", "-m") else None
    return ProcessFacts(
        pid=os.getpid(),
        command=tuple(sys.orig_argv),
        executable=sys.executable or "",
        working_directory=working_directory,
        script=str(script) if script is not None and script.is_file() else "",
        import_path=tuple(sys.path),
        variables={name: os.environ[name] for name in LAUNCHER_VARIABLES if name in os.environ},
    )


def capture_process(facts: ProcessFacts) -> dict[str, str]:
    """Keys python.version, python.implementation, process.command, process.executable, process.working_directory,
    process.pid, and launcher.NAME for each launcher variable. Values of options that look secret are hidden.
    """
    found = {
        "python.version": platform.python_version(),
        "python.implementation": platform.python_implementation(),
        "process.command": shlex.join(_hide_secrets(facts.command)),
        "process.executable": facts.executable,
        "process.working_directory": facts.working_directory,
        "process.pid": str(facts.pid),
        **{f"launcher.{name}": value for name, value in facts.variables.items()},
    }
    return {key: value for key, value in found.items() if value}


def _hide_secrets(command: Iterable[str]) -> list[str]:
    """`--api-key x` and `--api-key=x` lose their x, URLs their credentials."""
    shown: list[str] = []
    hide_next = False
    for word in command:
        name, equals, value = word.partition("=")
        if hide_next and not word.startswith("-"):
            shown.append(_HIDDEN)
            hide_next = False
            continue
        hide_next = not equals and _SECRET.fullmatch(word) is not None
        if equals and _SECRET.fullmatch(name):
            shown.append(f"{name}={_HIDDEN}")
        elif "@" in word and "://" in word:
            shown.append(f"{name}={without_credentials(value)}" if "://" in value else without_credentials(word))
        else:
            shown.append(word)
    return shown
