"""`python -m benchmarks [--form full|embedded] [--quick] [--json FILE]`: measures, and prints one table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks import calls, copy_rows, forms, ingest, purging, reads, scale, training
from benchmarks.figures import Figure, machine, table, write_json
from benchmarks.forms import Form

_SHAPES = (
    # columns, steps a request, points, bar in points a second
    (10, 1_000, 10_000_000, 3_000_000),
    (10, 100, 3_000_000, 1_000_000),
    (1_000, 10, 5_000_000, 1_000_000),
    (1_000, 1, 1_000_000, 300_000),
)
_QUICK = 10
"""By how much less --quick does."""


def measure(form: Form, quick: bool) -> Iterator[Figure]:
    """Every figure of a form."""
    share = _QUICK if quick else 1
    plain = None
    if form.postgresql is not None:
        plain = copy_rows.rows_per_second(form.postgresql, 1_000_000 // share)
    for columns, steps, points, bar in _SHAPES:
        rate = ingest.measure(form, columns, steps, points // share)
        yield Figure(
            f"{form.name}: {columns} metrics x {steps} steps a request, until readable",
            rate.readable,
            "points/s",
            "COPY of rows" if plain else "acknowledged",
            plain or rate.acknowledged,
            f"{bar:,} points/s",
            rate.readable >= bar,
        )
    for metrics, count, bar in ((10, 200_000, 300_000), (1_000, 3_000, 600_000)):
        logged = training.measure(form, metrics, count // share)
        yield Figure(
            f"{form.name}: run.log() of {metrics} metrics as fast as it can, until readable",
            logged.readable,
            "points/s",
            "until logged",
            logged.logged,
            f"{bar:,} points/s",
            logged.readable >= bar,
        )
    seconds = reads.history_seconds(form, 1_000_000 // share, 1_000)
    yield Figure(
        f"{form.name}: history of {1_000_000 // share:,} points to 1,000 buckets, not cached",
        seconds * 1000,
        "ms",
        bar="150 ms",
        reached=seconds <= 0.150,
    )
    median, p99 = reads.visible_seconds(form, 60 // share)
    yield Figure(
        f"{form.name}: a point visible after its write, idle (median {median * 1000:.1f} ms), p99",
        p99 * 1000,
        "ms",
        bar="150 ms",
        reached=p99 <= 0.150,
    )
    runs, metrics = 10_000 // share, 50
    large = scale.large_experiment(form, runs, metrics)
    for name, seconds, most in (
        ("GetSummary past the cache", large.summary_seconds, 0.300),
        ("ListRuns, a page of 100", large.list_seconds, 0.030),
    ):
        yield Figure(
            f"{form.name}: {name}, of {runs:,} runs x {metrics} metrics",
            seconds * 1000,
            "ms",
            bar=f"{most * 1000:.0f} ms",
            reached=seconds <= most,
        )
    if form.postgresql is not None:
        yield from _under_load(form, share)
    with calls.echo_server(form) as echo:
        for method, callers, count, least in (
            ("LogMetric", 32, 20_000, 0.6),
            ("LogMetric", 1, 1_000, None),
            ("GetSummary", 32, 20_000, 0.6),
            ("GetSummary", 1, 1_000, None),
            ("StartRun", 32, 5_000, None),
        ):
            bare = calls.measure(form, echo, method if method != "GetSummary" else "StartRun", callers, count // share)
            rate_of_calls = calls.measure(form, form.address, method, callers, count // share)
            ratio = rate_of_calls.per_second / bare.per_second
            yield Figure(
                f"{form.name}: {method}{' from the cache' if method == 'GetSummary' else ''}, {callers} callers "
                f"(median {rate_of_calls.median_seconds * 1000:.2f} ms)",
                rate_of_calls.per_second,
                "calls/s",
                "bare echo",
                bare.per_second,
                "" if least is None else f"ratio {least}",
                None if least is None else ratio >= least,
            )


def _under_load(form: Form, share: int) -> Iterator[Figure]:
    """Figures of the full form that take long."""
    stored, points = 50_000_000 // share, 10_000_000 // share
    before, after = scale.growth(form, stored, points)
    yield Figure(
        f"{form.name}: ingest after {stored:,} points more",
        after,
        "points/s",
        "before",
        before,
        "ratio 0.9",
        after >= 0.9 * before,
    )
    waiting = 20_000_000 // share
    consumer = scale.consumer_mib(form, waiting)
    yield Figure(
        f"{form.name}: memory of a consumer that finds {waiting:,} points waiting",
        consumer,
        "MiB",
        bar="350 MiB",
        reached=consumer <= 350,
    )
    server = scale.server_mib(form)
    yield Figure(
        f"{form.name}: memory of the server after all this", server, "MiB", bar="200 MiB", reached=server <= 200
    )
    yield from purging.figures(form, points, points)


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", choices=("full", "embedded"), help="only this form")
    parser.add_argument("--quick", action="store_true", help="a tenth of the points and calls")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    figures: list[Figure] = []
    for name, open_form in (("full", forms.full), ("embedded", forms.embedded)):
        if options.form in (None, name):
            with open_form() as form:
                for figure in measure(form, options.quick):
                    print(f"{figure.name}: {figure.value:,.0f} {figure.unit}", flush=True)
                    figures.append(figure)
    print(f"\n{machine()}\n\n{table(figures)}")
    if options.json:
        write_json(figures, options.json)


if __name__ == "__main__":
    main()
