"""`tracker history RUN METRIC…`: the points of metrics, as a plot, a picture, lines or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from tracker.v1.resources_pb2 import MetricSeries
from tracker_client.cli import output, plain, plots, texts
from tracker_client.cli.options import ApiKey, AsJson, MaxStep, MinStep, RunId, Server
from tracker_client.cli.session import connection, fail, misuse
from tracker_client.client import TrackerClient
from tracker_client.history import Series

PLOT_POINTS = 2_000
"""Points of a curve that a terminal can show."""
PICTURE_POINTS = 10_000
"""The same of a picture: as many as a server gives."""
_MAX_METRICS = 100
"""As many as a server takes in one call."""
_LEAST_HEIGHT, _MOST_HEIGHT = 8, 30


def history(
    run: RunId,
    metrics: Annotated[list[str], typer.Argument(metavar="METRIC…", help="Names of metrics.")],
    output_path: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.png", help="Draw a picture to this file.")
    ] = None,
    min_step: MinStep = None,
    max_step: MaxStep = None,
    max_points: Annotated[
        int | None,
        typer.Option(min=4, max=10_000, help="At most so many points a metric, chosen so that no peak is lost."),
    ] = None,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Plot metrics of a run. In a pipe, or with --json, print their points."""
    if output_path is not None and output_path.suffix.lower() != ".png":
        misuse(f"--output is {str(output_path)!r}; it must end in .png. `tracker export` writes CSV and the like")
    names = list(dict.fromkeys(metrics))
    if len(names) > _MAX_METRICS:
        misuse(f"{len(names)} metrics; history takes {_MAX_METRICS} at once. `tracker export` takes any number")
    draws = output_path is not None or (output.on_terminal() and not as_json)
    if draws and max_points is None:
        max_points = PLOT_POINTS if output_path is None else PICTURE_POINTS
    with connection(server, api_key) as client:
        if not draws and max_points is None:
            every_point = client.iter_metric_history(run, names, min_step=min_step, max_step=max_step)
            _check_names(client, run, _print_points(every_point, as_json=as_json))
            return
        found = client.get_metric_history(
            run, names, min_step=min_step, max_step=max_step, max_points=max_points or PLOT_POINTS
        )
        if not draws:
            _check_names(client, run, _print_points(found, as_json=as_json))
            return
        _check_names(client, run, {series.name for series in found if not len(series)})
        curves = [plots.Curve(series.name, series.steps.tolist(), series.values.tolist()) for series in found]
        if output_path is not None:
            _save(curves, output_path, title=run)
        else:
            _plot(curves, output.console())


def _print_points(found: Iterable[MetricSeries | Series], *, as_json: bool) -> set[str]:
    """Prints them as they come. Returns the names of metrics without any."""
    empty: set[str] = set()
    if not as_json:
        sys.stdout.write("metric\tstep\ttime_unix_ms\tvalue\n")
    for series in found:
        if not len(series.steps):
            empty.add(series.name)
        name = texts.field(series.name)
        for step, time, value in zip(series.steps, series.times_unix_ms, series.values, strict=True):
            value = float(value)
            if as_json:
                point = {"step": int(step), "time_unix_ms": int(time), "value": plain.real(value)}
                sys.stdout.write(json.dumps({"metric": series.name, **point}, ensure_ascii=False) + "\n")
            else:
                sys.stdout.write(f"{name}\t{step}\t{time}\t{texts.exact(value)}\n")
    return empty


def _check_names(client: TrackerClient, run: str, empty: set[str]) -> None:
    """A metric without points in the range is nothing special; one that the run does not have is a mistake."""
    if not empty:
        return
    known = [metric.name for metric in client.get_run(run).metrics]
    unknown = sorted(empty.difference(known))
    if unknown:
        fail(f"run {run} has no metric {unknown[0]!r}; it has: {', '.join(known[:50]) or 'none'}")


def _plot(curves: Sequence[plots.Curve], to: Console) -> None:
    color = to.color_system is not None
    if any(curve.finite[0] for curve in curves):
        height = min(_MOST_HEIGHT, max(_LEAST_HEIGHT, to.height - len(curves) - 4))
        try:
            drawn = plots.terminal_plot(curves, width=to.width, height=height, color=color)
        except ModuleNotFoundError:
            fail("plots need plotext: pip install 'experiment-tracker[cli]'; --json prints the points")
        sys.stdout.write(drawn + "\n")
    for index, curve in enumerate(curves):
        mark, style = ("━━", plots.COLORS[index % len(plots.COLORS)]) if color else (plots.mark(index, len(curves)), "")
        to.print(Text.assemble((f"{mark} ", style), plots.describe(curve)))


def _save(curves: Sequence[plots.Curve], path: Path, *, title: str) -> None:
    try:
        plots.save_plot(curves, path, title=title)
    except ModuleNotFoundError:
        fail("pictures need matplotlib: pip install 'experiment-tracker[plots]'")
    typer.echo(f"{path}: {', '.join(texts.one_line(curve.name) for curve in curves)}", err=True)
