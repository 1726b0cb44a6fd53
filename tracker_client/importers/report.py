"""What an import did, source by source, and how far it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tracker_client.importers.csv_mapping import CsvMapping
from tracker_client.importers.records import Ignored, Points, Problem

MAX_PROBLEMS = 20
"""So many are told of one source; of the rest the number."""


class Outcome(StrEnum):
    """What became of a source."""

    IMPORTED = "imported"
    RESUMED = "resumed"
    """An import of it had been interrupted; the rest went in now."""
    UPDATED = "updated"
    """It had been imported and has changed since; what it holds now took the place of what it held."""
    ALREADY_THERE = "already there"
    """It had been imported and is the same; nothing was sent."""
    FOUND = "found"
    """A dry run: it would be imported, or is there already."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SourceReport:
    """One run."""

    format: str
    path: str
    run_id: str
    name: str
    experiment_id: str
    outcome: Outcome
    points: int = 0
    """Read from it. 0 when it was already there, since then it was not read."""
    series: int = 0
    requests_skipped: int = 0
    """Requests of an earlier, interrupted import that had arrived and were not sent again."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Values that are no numbers, by name."""
    columns: CsvMapping | None = None
    """Of a table: how its columns were understood."""
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportReport:
    """All of them."""

    sources: tuple[SourceReport, ...]
    problems: tuple[Problem, ...]
    """Of files and folders that are no source."""

    @property
    def points(self) -> int:
        """Over all sources."""
        return sum(source.points for source in self.sources)

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """How many sources had which."""
        return Counter(source.outcome for source in self.sources)

    @property
    def all_problems(self) -> tuple[Problem, ...]:
        """Those of the sources too."""
        return (*self.problems, *(problem for source in self.sources for problem in source.problems))


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import is. `progress` is called with it after each request and each source, one call at a time."""

    sources_done: int
    sources_total: int
    points: int
    """Acknowledged so far; in a dry run, read."""
    path: str
    """The source that it was last about."""


@dataclass(slots=True)
class Tally:
    """What is told of a source while it is read."""

    path: str
    counts: Counter[str] = field(default_factory=Counter)
    """Points by metric."""
    ignored: Counter[str] = field(default_factory=Counter)
    columns: CsvMapping | None = None
    experiment_id: str = ""
    problems: list[Problem] = field(default_factory=list)
    _untold: int = 0

    def points(self, points: Points) -> int:
        """Counts points; returns how many."""
        before = self.counts.total()
        for block in points.blocks:
            for name in block.columns:
                self.counts[name] += len(block.steps)
        return self.counts.total() - before

    def ignore(self, ignored: Ignored) -> None:
        """Counts values that are no numbers."""
        self.ignored[ignored.name] += ignored.count

    def tell(self, problems: Iterable[Problem]) -> None:
        """Keeps problems, up to a number."""
        for problem in problems:
            if len(self.problems) < MAX_PROBLEMS:
                self.problems.append(problem)
            else:
                self._untold += 1

    def all_problems(self) -> tuple[Problem, ...]:
        """Those kept, and how many were not."""
        more = [Problem(self.path, f"{self._untold} more problems of this source")] if self._untold else []
        return (*self.problems, *more)
