"""What readers of foreign logs give: one run as a stream of records, whatever its format."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from tracker.v1.resources_pb2 import RunStatus
from tracker_client.importers.csv_mapping import CsvMapping


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be read or was left out. The rest goes in."""

    path: str
    """The file or folder."""
    what: str
    """What is wrong, what came of it, and what would be right."""
    where: str = ""
    """Where in the file: a line, a byte, a name. Empty: the whole of it."""

    def __str__(self) -> str:
        place = f"{self.path}, {self.where}" if self.where else self.path
        return f"{place}: {self.what}"


@dataclass(frozen=True, slots=True)
class RunSource:
    """One run as it lies on disk."""

    format: str
    """A key of `formats.FORMATS`."""
    path: Path
    """What to show for it: a file or a folder."""
    files: tuple[Path, ...]
    """All files whose bytes make up the run, in the order of reading. A change in any of them is another content."""
    key: str
    """What tells this source from every other one, however often it grows. See identity.py."""
    run_id: str
    name: str


@dataclass(frozen=True, slots=True)
class RunStart:
    """What is known of a run before its points. The first record of every stream."""

    started_ms: int
    """Milliseconds since 1970-01-01 UTC."""
    name: str = ""
    """Empty: the source's."""
    experiment: str = ""
    """The experiment that the source itself names. Empty: none."""
    config: Mapping[str, object] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    columns: CsvMapping | None = None
    """How the columns of a table were understood."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Config and metadata that the source states only later."""

    config: Mapping[str, object] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Block:
    """Points of metrics that were logged at the same moments."""

    steps: array[int]
    times_ms: array[int]
    columns: Mapping[str, array[float]]
    """By metric, each as long as the steps."""


@dataclass(frozen=True, slots=True)
class Points:
    """Blocks that fit into one request together. See point_buffer.py."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Ignored:
    """Values that are no numbers."""

    name: str
    """Of the metric, column or tag."""
    count: int
    what: str
    """What they are: "text", "histograms"."""


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The last record of a stream whose run has ended. A stream without one leaves its run open."""

    ended_ms: int
    status: RunStatus.ValueType = RunStatus.RUN_STATUS_COMPLETED
    final_metrics: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


Record: TypeAlias = RunStart | RunFacts | Points | Ignored | Problem | RunEnd

END_NOT_RECORDED: Mapping[str, str] = {"import.end": "not recorded in the source; taken as completed"}
"""Metadata of runs whose format has no place for how they ended."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, or a part of one, in which readers look for runs."""

    path: Path
    """Absolute, links resolved."""
    files: tuple[str, ...]
    """Names, sorted."""
    named: bool = False
    """True when the user named these very files, so that they are meant even if they look like something else."""


class Reader(Protocol):
    """One format."""

    format: str

    def find(self, folder: Folder) -> Iterator[RunSource | Problem]:
        """The runs of this format that lie in a folder, and what looks like one and cannot be. Raises OSError."""

    def read(self, source: RunSource) -> Iterator[Record]:
        """A run that `find` gave, in memory of one block. The same bytes give the same records.

        Raises ReadError and OSError.
        """


class ReadError(Exception):
    """A source cannot be read at all. The message says why."""


class MissingPackageError(ReadError):
    """A format needs a package that is not installed."""

    def __init__(self, what: str, package: str) -> None:
        super().__init__(
            f"reading {what} needs the package {package}, which is not installed: "
            "pip install 'experiment-tracker[import]'"
        )
