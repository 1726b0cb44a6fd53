"""Which column of a table is the step, which the time, which are metrics: as guessed, or as somebody says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tracker_client.importers.values import is_integral, parse_moment

STEP_NAMES = (
    "step",
    "global_step",
    "_step",
    "trainer/global_step",
    "timesteps_total",
    "num_env_steps_sampled",
    "total_timesteps",
    "time/total_timesteps",
    "misc/total_timesteps",
    "total_steps",
    "current_steps",
    "train_step",
    "env_steps",
    "env_step",
    "num_timesteps",
    "timesteps",
    "timestep",
    "timestepssofar",
    "totalenvinteracts",
    "frames",
    "training_iteration",
    "iteration",
    "iterations",
    "time/iterations",
    "iter",
    "num_updates",
    "misc/nupdates",
    "nupdates",
    "update",
    "updates",
    "batch",
    "epoch",
    "epochs",
    "round",
    "episode",
    "episodes",
    "episodessofar",
)
"""Names of step columns in lower case, the finest count first."""
TIME_NAMES = ("timestamp", "_timestamp", "wall_time", "wall time", "walltime", "time", "datetime", "date", "created_at")
"""Names of columns that may hold moments, in lower case."""
_NEARLY_ALL = 0.95


@dataclass(frozen=True, slots=True)
class CsvMapping:
    """What the columns of a CSV log mean. As a wish: None is guessed. As a finding: nothing is None."""

    step: str | None = None
    """The column with the step. Empty: none, so rows are counted from 0."""
    time: str | None = None
    """The column with the moment of each row: seconds or milliseconds since 1970, or ISO 8601. Empty: none."""
    metrics: tuple[str, ...] | None = None
    """The columns to take."""
    ignored: tuple[str, ...] | None = None
    """The columns to leave out. Without metrics, all others that have a number are taken."""


class MappingError(ValueError):
    """A mapping names columns that a file does not have. The message lists those it has."""


@dataclass(slots=True)
class ColumnSurvey:
    """What the cells of a column are."""

    numbers: int = 0
    others: int = 0
    integers: int = 0
    """Numbers that a step can be."""
    moments: int = 0

    def see(self, cell: str, number: float | None) -> None:
        """One more cell that is not empty."""
        if number is None:
            self.others += 1
        else:
            self.numbers += 1
        self.integers += number is not None and is_integral(number)
        self.moments += parse_moment(cell) is not None

    def is_nearly_all(self, count: int) -> bool:
        """Whether so many cells make the column what they are: a few broken rows do not change that."""
        return count > 0 and count >= _NEARLY_ALL * (self.numbers + self.others)


def guess_step(columns: Mapping[str, ColumnSurvey]) -> str:
    """The column to take as step; empty when none will do."""
    named = _by_lower_name(columns)
    for wanted in STEP_NAMES:
        survey = columns.get(named.get(wanted, ""))
        if survey and survey.is_nearly_all(survey.integers):
            return named[wanted]
    return ""


def guess_time(columns: Mapping[str, ColumnSurvey]) -> str:
    """The column to take as time; empty when none will do."""
    named = _by_lower_name(columns)
    for wanted in TIME_NAMES:
        survey = columns.get(named.get(wanted, ""))
        if survey and survey.is_nearly_all(survey.moments):
            return named[wanted]
    return ""


def resolve(columns: Mapping[str, ColumnSurvey], wish: CsvMapping) -> CsvMapping:
    """The mapping of a file with these columns. Raises MappingError."""
    _check_names(columns, wish)
    step = guess_step(columns) if wish.step is None else wish.step
    time = guess_time(columns) if wish.time is None else wish.time
    ignored = set(wish.ignored or ())
    if wish.metrics is None:
        metrics = tuple(n for n, s in columns.items() if s.numbers and n not in ignored and n not in (step, time))
    else:
        metrics = wish.metrics
    left = tuple(name for name in columns if name not in (step, time, *metrics))
    return CsvMapping(step=step, time=time, metrics=metrics, ignored=left)


def _by_lower_name(columns: Mapping[str, ColumnSurvey]) -> dict[str, str]:
    # Of names that differ in case only, the first counts.
    return {name.lower(): name for name in reversed(list(columns))}


def _check_names(columns: Mapping[str, ColumnSurvey], wish: CsvMapping) -> None:
    wanted: Sequence[str] = [wish.step or "", wish.time or "", *(wish.metrics or ()), *(wish.ignored or ())]
    unknown = [name for name in wanted if name and name not in columns]
    if unknown:
        raise MappingError(
            f"it has no column {', '.join(map(repr, unknown))}; its columns are {', '.join(map(repr, columns))}"
        )
