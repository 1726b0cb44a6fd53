"""Training scripts as real processes, and what the tracker has of them afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from deploy.servers.processes import wait_until
from tests.e2e.load import Failure, call
from tests.e2e.processes import ROOT
from tests.e2e.recount import read_all
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1 import tracker_service_pb2_grpc as rpc
from tracker_client.sender.sync import SyncReport, sync_directory

JOB_SECONDS = 60.0
SYNC_SECONDS = 60.0
_RUNS_A_REQUEST = 100
_OF_LAUNCHERS = ("TRACKER_", "SLURM_", "OMPI_", "PMI_", "TORCHELASTIC_")
_RANKS = frozenset({"RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK"})


@dataclass(frozen=True, slots=True)
class Ended:
    """A script that has ended."""

    code: int
    """Its exit code; negative: the signal that ended it."""
    output: str
    """What it printed."""
    errors: str
    """What it said on its standard error, warnings included."""
    seconds: float
    """From its start to its end."""

    @property
    def warnings(self) -> list[str]:
        """What the client has said."""
        return [line for line in self.errors.splitlines() if line.startswith("tracker: ")]


class Job:
    """A training script. The tracker's settings come from the environment, as in real life."""

    def __init__(self, directory: Path, script: str, *, server: str = "127.0.0.1:1", **settings: object) -> None:
        """directory: of the script, its working directory; journals go to .tracker below it. settings: without
        TRACKER_, in lower case."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.script = directory / "train.py"
        self.script.write_text(textwrap.dedent(script))
        self.environment = clean_environment() | {
            f"TRACKER_{name.upper()}": str(value) for name, value in {"server": server, **settings}.items()
        }

    @property
    def journals(self) -> Path:
        """Where its journals are."""
        return self.directory / ".tracker"

    def start(self, *arguments: object, environment: Mapping[str, str] = MappingProxyType({})) -> Running:
        """Starts it. A warning of Python is an error in it."""
        return Running(
            subprocess.Popen(
                [sys.executable, "-W", "error", str(self.script), *map(str, arguments)],
                cwd=self.directory,
                env={**self.environment, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def run(self, *arguments: object, **environment: str) -> Ended:
        """Starts it, and waits for its end and for its pipes to close."""
        return self.start(*arguments, environment=environment).wait()

    def sync(self, server: str | None = None, api_key: str | None = None) -> SyncReport:
        """Sends what is left."""
        return sync_all(self.journals, server, api_key)


class Running:
    """A script that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._began = time.monotonic()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def line(self) -> str:
        """The next line that it prints; empty when it prints no more."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: object) -> None:
        """Writes a line to its standard input."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = JOB_SECONDS) -> Ended:
        """Waits for its end, and for its pipes to close."""
        try:
            output, errors = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return Ended(self.process.returncode, output, errors, time.monotonic() - self._began)


def clean_environment() -> dict[str, str]:
    """Without what launchers and trackers set."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(_OF_LAUNCHERS) and name not in _RANKS
    }
    return kept | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "generated")))}


def sync_all(journals: Path, server: str | None = None, api_key: str | None = None) -> SyncReport:
    """Sends all that is left, and insists that nothing is."""
    report = sync_directory(journals, server=server, api_key=api_key, timeout=SYNC_SECONDS)
    assert report.complete, report
    assert not report.running, report
    # Hidden are those that were being made when their process was killed.
    assert all(path.name.startswith(".") for path in (journals / "journals").iterdir()), report
    return report


def get_run(stub: rpc.TrackerServiceStub, run_id: str, tokens: Iterable[str] = ()) -> public.GetRunResponse:
    """A run as readers see it."""
    request = public.GetRunRequest(run_id=run_id, page_size=1000, write_tokens=tokens)
    answer: public.GetRunResponse = call(stub.GetRun, request, 30)
    return answer


def wait_run(stub: rpc.TrackerServiceStub, run_id: str, seconds: float = 20) -> public.GetRunResponse:
    """A run, once everything of it has arrived."""
    answers: list[public.GetRunResponse] = []

    def complete() -> bool:
        answers.append(get_run(stub, run_id))
        return answers[-1].completeness.complete

    assert wait_until(complete, seconds, interval=0.05), answers[-1]
    return answers[-1]


def wait_points(stub: rpc.TrackerServiceStub, run_id: str, name: str, count: int, seconds: float = 60) -> None:
    """Returns when a series has so many points."""

    def counted() -> int:
        try:
            return sum(metric.count for metric in get_run(stub, run_id).metrics if metric.name == name)
        except Failure as failure:
            if failure.code.name == "NOT_FOUND":
                return 0
            raise

    assert wait_until(lambda: counted() == count, seconds, interval=0.05), (counted(), count)


def list_runs(stub: rpc.TrackerServiceStub, experiment_id: str) -> set[str]:
    """The runs of an experiment that the server has heard of."""
    found: set[str] = set()
    request = public.ListRunsRequest(experiment_id=experiment_id, page_size=1000)
    while True:
        page: public.ListRunsResponse = call(stub.ListRuns, request, 30)
        found |= {run.run_id for run in page.runs}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def read_points(
    stub: rpc.TrackerServiceStub, run_ids: Sequence[str], names: Sequence[str]
) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Steps and values of series, each point counted, in order; none for a series that is not there."""
    points: dict[tuple[str, str], list[tuple[int, float]]] = {(run, name): [] for run in run_ids for name in names}
    for first in range(0, len(run_ids), _RUNS_A_REQUEST):
        found = read_all(stub, run_ids[first : first + _RUNS_A_REQUEST], names)
        for key, series in found.items():
            points[key] = list(zip(series.steps.tolist(), series.values.tolist(), strict=True))
    return points


def sender_pids(journals: Path) -> list[int]:
    """The senders at work in a directory, as the kernel lists them."""
    wanted = ["-m", "tracker_client.sender", str(journals.resolve())]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if command[1:4] == wanted:
                found.append(int(entry.name))
    return found


@contextmanager
def deaf_server() -> Iterator[str]:
    """The address of a server that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield "{}:{}".format(*listener.getsockname())
