"""Runs that change, a line each: on a terminal what is new of them, in a pipe a row as of the list, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from rich.text import Text

from tracker.v1.resources_pb2 import MetricSummary, Run, RunUpdate
from tracker.v1.tracker_service_pb2 import WatchRunsResponse
from tracker_client.cli import output, plain, texts

IDS_A_CALL = 50
"""Runs that are looked up at a time: a filter has room for 100 conditions, those of the caller included."""


class Chosen:
    """The runs that meet what the caller asked for: an update of another run is not for him.

    A run that has met it is given once more when it does no longer: so who watches the running ones sees their ends.
    """

    def __init__(self, known: Iterable[str], find: Callable[[Sequence[str]], Iterator[Run]]) -> None:
        """known: those that meet it now; find: those of some runs that do."""
        self._known = set(known)
        self._find = find

    def of(self, updates: Sequence[RunUpdate]) -> list[RunUpdate]:
        """Those of the updates that are to be given. Raises TrackerError."""
        ids = [update.run.run_id for update in updates]
        parts = [ids[start : start + IDS_A_CALL] for start in range(0, len(ids), IDS_A_CALL)]
        meeting = {run.run_id for part in parts for run in self._find(part)}
        given = [update for update in updates if update.run.run_id in meeting or update.run.run_id in self._known]
        self._known = (self._known - set(ids)) | meeting
        return given


def print_changes(
    stream: Iterable[WatchRunsResponse],
    chosen: Chosen | None,
    row: Callable[[RunUpdate], Sequence[output.Cell]],
    *,
    as_json: bool,
) -> None:
    """Prints what changes, for ever. chosen: None: all. row: of the list. Raises TrackerError."""
    console = output.console() if output.on_terminal() and not as_json else None
    for answer in stream:
        moment = texts.instant(answer.as_of)
        for update in answer.updates if chosen is None else chosen.of(answer.updates):
            if console is not None:
                console.print(_line(update, moment), no_wrap=True, overflow="ellipsis", crop=True)
            elif as_json:
                item = json_of(update.run, update.metrics, update)
                sys.stdout.write(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n")
            else:
                sys.stdout.write("\t".join(texts.field(cell.exact) for cell in row(update)) + "\n")
        sys.stdout.flush()


def json_of(run: Run, metrics: Iterable[MetricSummary], update: RunUpdate | None = None) -> plain.Json:
    """A run of a list that is watched. update: None: it was there when the watch began."""
    return {
        **plain.run(run),
        "metrics": [plain.metric(one) for one in metrics],
        "hidden": None if update is None else hidden(update) or None,
        "revision": None if update is None else update.revision,
    }


def standing(update: RunUpdate) -> output.Cell:
    """Its status, or that it is out of sight."""
    word = hidden(update)
    return output.text(word, "dim") if word else output.status(update.run.status)


def hidden(update: RunUpdate) -> str:
    """`deleted` or `purged`; empty when it is neither."""
    if update.run.HasField("deleted_at"):
        # Of a purged one that is all there is.
        return "deleted" if update.run.status else "purged"
    return "deleted" if update.HasField("experiment_deleted_at") else ""


def last_step(metrics: Iterable[MetricSummary]) -> int | None:
    """The highest step that any of them has; None: none has any."""
    return max((metric.last.step for metric in metrics if metric.HasField("last")), default=None)


def _line(update: RunUpdate, moment: datetime) -> Text:
    status = standing(update)
    line = Text.assemble((texts.local(moment)[-8:], "dim"), "  ", (texts.one_line(update.run.run_id), "bold"), "  ")
    line.append(f"{status.shown:<9}", status.style)
    step = last_step(update.metrics)
    if step is not None:
        line.append(f"  step {step:<8,}")
    for metric in update.metrics:
        value = output.metric(metric)
        line.append(f"  {texts.one_line(metric.name)} ").append(value.shown, value.style or "bold")
    return line
