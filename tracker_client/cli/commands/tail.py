"""`tracker tail RUN`: a run as it goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from tracker.v1.resources_pb2 import (
    RUN_STATUS_CANCELLED,
    RUN_STATUS_COMPLETED,
    RUN_STATUS_FAILED,
    RUN_STATUS_PREEMPTED,
)
from tracker.v1.tracker_service_pb2 import GetRunResponse
from tracker_client.cli import output, plain, texts
from tracker_client.cli.commands.show import arrival
from tracker_client.cli.following import Follower, Point
from tracker_client.cli.options import ApiKey, AsJson, RunId, Server
from tracker_client.cli.session import connection, fail
from tracker_client.cli.watching import Patience, moments
from tracker_client.client import TrackerClient
from tracker_client.errors import TrackerError

ENDED = (RUN_STATUS_COMPLETED, RUN_STATUS_FAILED, RUN_STATUS_CANCELLED, RUN_STATUS_PREEMPTED)
"""Statuses after which nothing more is expected."""
LATE_SECONDS = 3.0
"""How long to wait, after a run's end, for what has not arrived yet."""
LATE_PAUSE_SECONDS = 0.25
LINES_A_LOOK = 20
"""New lines that a terminal gets at once; of more, the last ones. A pipe gets all."""


def tail(
    run: RunId,
    metrics: Annotated[list[str] | None, typer.Argument(metavar="[METRIC…]", help="Only these metrics.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--once", help="Go on until the run ends, or only say where it is.")
    ] = True,
    interval: Annotated[
        float, typer.Option(min=0.1, max=3_600, metavar="SECONDS", help="Between two looks, at least.")
    ] = 1.0,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Follow a run until it ends.

    Prints the last point of each metric, then new points as they come: the server says when to look. Points that arrive
    late, with a step below one that was printed, are left out.
    """
    with connection(server, api_key) as client:
        follower = Follower(client, run, metrics or ())
        found = client.get_run(run)
        _check_names(found, run, metrics or ())
        printer = _Printer(as_json=as_json)
        printer.points(follower.begin(found))
        if follow and not _has_ended(found):
            found = _follow(client, run, follower, printer, interval)
        printer.note(f"run {run}: {texts.status(found.run.status)}. {arrival(found.completeness)}")


def _follow(client: TrackerClient, run: str, follower: Follower, printer: _Printer, interval: float) -> GetRunResponse:
    """Prints what comes until the run has ended; returns the run as it is then."""
    patience = Patience(printer.note)

    def look() -> GetRunResponse:
        # A server that is away for a while is no reason to end what may have been left open over night.
        while True:
            try:
                found = client.get_run(run)
                printer.points(follower.advance(found))
            except TrackerError as error:
                patience.failed(error)
            else:
                patience.answered()
                return found

    found = next(found for found in (look() for _ in moments(client, run, interval, patience)) if _has_ended(found))
    # What was sent before the end may arrive after it.
    until = time.monotonic() + LATE_SECONDS
    while not found.completeness.complete and time.monotonic() < until:
        time.sleep(min(interval, LATE_PAUSE_SECONDS))
        found = look()
    return found


class _Printer:
    """Prints points: a line for each step on a terminal, one for each point in a pipe."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console: Console | None = output.console() if output.on_terminal() and not as_json else None
        self._has_header = False

    def points(self, points: Iterable[Point]) -> None:
        """Prints new points, and sees to it that they are seen."""
        if self._console is not None:
            self._people(self._console, points)
        elif self._as_json:
            for point in points:
                line = {
                    "metric": point.metric,
                    "step": point.step,
                    "time_unix_ms": point.time_unix_ms,
                    "value": plain.real(point.value),
                }
                sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        else:
            self._lines(points)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Says something that is no point."""
        typer.echo(text, err=True)

    def _lines(self, points: Iterable[Point]) -> None:
        if not self._has_header:
            sys.stdout.write("metric\tstep\ttime_unix_ms\tvalue\n")
            self._has_header = True
        for point in points:
            name, value = texts.field(point.metric), texts.exact(point.value)
            sys.stdout.write(f"{name}\t{point.step}\t{point.time_unix_ms}\t{value}\n")

    def _people(self, to: Console, points: Iterable[Point]) -> None:
        latest: dict[int, list[Point]] = {}
        dropped = False
        try:
            for point in points:
                latest.setdefault(point.step, []).append(point)
                if len(latest) > LINES_A_LOOK:
                    del latest[min(latest)]
                    dropped = True
        finally:
            # What came before an error counts as given.
            if dropped:
                to.print(Text("…", "dim"))
            for step in sorted(latest):
                to.print(_line(step, latest[step]))


def _line(step: int, points: Sequence[Point]) -> Text:
    moment = texts.instant_of(points[-1].time_unix_ms)
    line = Text.assemble((texts.local(moment)[-8:] if moment else "", "dim"), f"  step {step:<8,}")
    for point in points:
        value = output.number(point.value)
        line.append(f"  {texts.one_line(point.metric)} ").append(value.shown, value.style or "bold")
    return line


def _has_ended(found: GetRunResponse) -> bool:
    return found.run.status in ENDED


def _check_names(found: GetRunResponse, run: str, metrics: Sequence[str]) -> None:
    """Names that the run does not have yet may come, unless it has ended."""
    known = [metric.name for metric in found.metrics]
    unknown = sorted(set(metrics).difference(known))
    if unknown and _has_ended(found):
        fail(f"run {run} has no metric {unknown[0]!r}; it has: {', '.join(known[:50]) or 'none'}")
