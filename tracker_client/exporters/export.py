"""The points of runs, from the server to a writer."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tracker_client.client import TrackerClient
from tracker_client.exporters.formats import Writer

METRICS_PER_CALL = 100
"""As many as a server takes in one GetMetricHistory."""
PAGE_POINTS = 25_000
"""Points in memory at a time. Pages of 100,000 are no faster."""


class NothingToExport(ValueError):
    """No metric matches. The message says which there are."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an export is."""

    run_id: str
    points: int
    """Written so far, of all runs."""
    expected_points: int
    """Of all runs, as they were when the export began; too many when only a range of steps is taken."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an export wrote."""

    points: int
    series: int
    runs: int


def select_metrics(
    client: TrackerClient, run_ids: Sequence[str], patterns: Sequence[str] = ()
) -> dict[str, dict[str, int]]:
    """Per run its metrics, or those that match one of the patterns (as of file names), and how many points each has.

    Raises NothingToExport when runs have metrics and a pattern matches none of them.
    """
    counts = {
        run_id: {metric.name: metric.count for metric in client.get_run(run_id).metrics}
        for run_id in dict.fromkeys(run_ids)
    }
    names = sorted({name for metrics in counts.values() for name in metrics})
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise NothingToExport(f"no metric matches {pattern!r}; there are: {', '.join(names) or 'none'}")
    if not patterns:
        return counts
    return {
        run_id: {
            name: count
            for name, count in metrics.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        }
        for run_id, metrics in counts.items()
    }


def export_runs(
    client: TrackerClient,
    selection: Mapping[str, Mapping[str, int]],
    writer: Writer,
    *,
    min_step: int | None = None,
    max_step: int | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ExportReport:
    """Writes every point of the selection (see select_metrics), run by run, metric by metric, ordered by step.

    Holds one page at a time. Does not close the writer. Raises TrackerError, and what the writer raises.
    """
    expected = sum(count for metrics in selection.values() for count in metrics.values())
    points = 0
    written: set[tuple[str, str]] = set()
    for run_id, metrics in selection.items():
        names = list(metrics)
        for start in range(0, len(names), METRICS_PER_CALL):
            chosen = names[start : start + METRICS_PER_CALL]
            found = client.iter_metric_history(
                run_id, chosen, min_step=min_step, max_step=max_step, page_size=PAGE_POINTS
            )
            for series in found:
                if series.steps:
                    writer.write(series)
                    written.add((run_id, series.name))
                    points += len(series.steps)
                    progress(Progress(run_id=run_id, points=points, expected_points=expected))
    return ExportReport(points=points, series=len(written), runs=len(selection))
