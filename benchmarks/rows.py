"""The rows of the table, by groups that can be asked for by name: what each measures, against what, and its bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks import (
    calls,
    chunks,
    compaction,
    copy_rows,
    ingest,
    purging,
    reads,
    scale,
    step_by_step,
    training,
    unsent,
    visibility,
)
from benchmarks.figures import Figure
from benchmarks.forms import Form


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are measured together."""

    name: str
    measure: Callable[[Form, int], Iterator[Figure]]
    """The form, and by how much less than in full is to be done: 1 is in full."""
    full_only: bool = False
    """Whether the embedded form has none of it."""


def _step_by_step(form: Form, share: int) -> Iterator[Figure]:
    """First of all, since bytes a point are those of an empty database."""
    steps = 86_400 // share
    found = step_by_step.measure(form, steps)
    run = f"{steps:,} steps x {step_by_step.METRICS} metrics logged one step at a time"
    rows = None
    if form.postgresql is not None:
        rows = copy_rows.bytes_per_row(form.postgresql, steps * step_by_step.METRICS)
    size = sum(found.disk.values())
    parts = ", ".join(f"{table} {each:.2f}" for table, each in found.disk.items())
    name = f"{form.name}: disk, {run} in {found.written_chunks:,} chunks a metric, compacted ({parts})"
    yield Figure(name, size, "bytes/point", "COPY of rows", rows, "20 bytes/point", size <= 20)
    for what, seconds, bulk in (
        ("every point", found.seconds, found.bulk_seconds),
        ("to 1,000 points", found.buckets_seconds, found.bulk_buckets_seconds),
    ):
        yield Figure(
            f"{form.name}: history of the same, {what}, not cached ({seconds * 1000:.1f} ms)",
            steps / seconds,
            "points/s",
            "logged in bulk",
            steps / bulk,
            "ratio 0.8",
            bulk / seconds >= 0.8,
        )


def _ingest(form: Form, share: int) -> Iterator[Figure]:
    plain = None
    if form.postgresql is not None:
        plain = copy_rows.rows_per_second(form.postgresql, 1_000_000 // share)
    for columns, steps, points, bar in (
        (10, 1_000, 10_000_000, 3_000_000),
        (10, 100, 3_000_000, 1_000_000),
        (1_000, 10, 5_000_000, 1_000_000),
        (1_000, 1, 1_000_000, 300_000),
    ):
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


def _log(form: Form, share: int) -> Iterator[Figure]:
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


def _history(form: Form, share: int) -> Iterator[Figure]:
    points = 1_000_000 // share
    seconds = reads.history_seconds(form, points, 1_000)
    yield _at_most(f"{form.name}: history of {points:,} points to 1,000 buckets, not cached", seconds, 0.150)


def _long_history(form: Form, share: int) -> Iterator[Figure]:
    points = 10_000_000 // share
    found = reads.long_series(form, points, 1_000)
    name = f"{form.name}: history of {points:,} points"
    yield _at_most(f"{name} to 1,000 buckets, every peak in it, not cached", found.buckets_seconds, 0.300)
    yield Figure(f"{name}, a thousandth of the steps: {points // 1000:,} raw points", found.zoom_seconds * 1000, "ms")


def _visible(form: Form, share: int) -> Iterator[Figure]:
    median, p99 = visibility.idle_seconds(form, 60 // share)
    what = f"{form.name}: a point visible after its write, idle (median {median * 1000:.1f} ms), p99"
    yield _at_most(what, p99, 0.150)


def _visible_under_load(form: Form, share: int) -> Iterator[Figure]:
    points = 20_000_000 // share
    loads = [("as fast as points become readable", 1_000_000, "1,000 ms")]
    if form.postgresql is not None:
        # The embedded form acknowledges what is readable.
        loads.append(("as fast as points are acknowledged", 0, ""))
    for what, ahead, bar in loads:
        found = visibility.loaded_seconds(form, points, ahead)
        p99 = found.quantile(0.99)
        name = f"{form.name}: a point visible after run.log(), beside bulk ingest {what} ({found.rate:,.0f} points/s; "
        name += f"{len(found.seconds)} points logged, median {found.quantile(0.5) * 1000:.0f} ms), p99"
        yield Figure(name, p99 * 1000, "ms", bar=bar, reached=p99 <= 1.0 if bar else None)


def _experiment(form: Form, share: int) -> Iterator[Figure]:
    runs, metrics = 10_000 // share, 50
    large = scale.large_experiment(form, runs, metrics)
    of = f"of {runs:,} runs x {metrics} metrics"
    yield _at_most(f"{form.name}: GetSummary past the cache, {of}", large.summary_seconds, 0.300)
    yield _at_most(f"{form.name}: ListRuns, a page of 100, {of}", large.list_seconds, 0.030)
    yield _at_most(f"{form.name}: the same in the order of a metric", large.ordered_seconds, 0.100)
    name = (
        f"{form.name}: the same with conditions on a metric, on the config and on tags, in the order of another metric"
    )
    yield _at_most(name, large.found_seconds, 0.100)


def _growth(form: Form, share: int) -> Iterator[Figure]:
    stored, points = 50_000_000 // share, 10_000_000 // share
    before, after = scale.growth(form, stored, points)
    name = f"{form.name}: ingest after {stored:,} points more"
    yield Figure(name, after, "points/s", "before", before, "ratio 0.9", after >= 0.9 * before)


def _memory(form: Form, share: int) -> Iterator[Figure]:
    waiting = 20_000_000 // share
    name = f"{form.name}: memory of a consumer that finds {waiting:,} points waiting"
    consumer = scale.consumer_mib(form, waiting)
    yield Figure(name, consumer, "MiB", bar="350 MiB", reached=consumer <= 350)
    server = scale.server_mib(form)
    name = f"{form.name}: memory of the server after all this"
    yield Figure(name, server, "MiB", bar="200 MiB", reached=server <= 200)


def _client_memory(form: Form, share: int) -> Iterator[Figure]:
    metrics, count = 10, 1_000_000 // share
    memory = unsent.measure(form, metrics, count)
    more = memory.peak - memory.idle
    name = f"client: memory of training and sender with {metrics * count:,} points unsent, over idle"
    yield Figure(name, more, "MiB", "idle", memory.idle, "50 MiB", more <= 50)


def _calls(form: Form, share: int) -> Iterator[Figure]:
    if form.postgresql is not None:
        chunks.settle(form)
    with calls.echo_server(form) as echo:
        for case in _CALLS:
            found, bare = calls.by_turns(form, echo, case.method, case.callers, case.count // share)
            yield _calls_figure(f"{form.name}: {case.what}", case, found, bare)
        if form.postgresql is None:
            return
        with calls.second_server(form):
            for case in (each for each in _CALLS if each.callers > 1):
                found, bare = calls.by_turns(form, echo, case.method, case.callers, case.count // share, apart=True)
                name = f"{form.name}, two servers on one port, a connection for each caller: {case.what}"
                yield _calls_figure(name, case, found, bare)


@dataclass(frozen=True, slots=True)
class _Calls:
    method: str
    callers: int
    count: int
    ratio: float = 0.0
    """Of a bare echo, at least."""
    rate: float = 0.0
    """Calls a second, at least."""

    @property
    def what(self) -> str:
        """For people."""
        return f"{self.method}{' from the cache' if self.method == 'GetSummary' else ''}, {self.callers} callers"


_CALLS: Final = (
    _Calls("LogMetric", 32, 10_000, ratio=0.6),
    _Calls("LogMetric", 1, 500),
    _Calls("GetSummary", 32, 10_000, ratio=0.6),
    _Calls("GetSummary", 1, 500),
    _Calls("StartRun", 32, 5_000, rate=1_500),
)


def _calls_figure(name: str, case: _Calls, found: calls.CallRate, bare: calls.CallRate) -> Figure:
    bar, reached = "", None
    if case.ratio:
        bar, reached = f"ratio {case.ratio}", found.per_second >= case.ratio * bare.per_second
    elif case.rate:
        bar, reached = f"{case.rate:,.0f} calls/s", found.per_second >= case.rate
    name += f" (median {found.median_seconds * 1000:.2f} ms)"
    return Figure(name, found.per_second, "calls/s", "bare echo", bare.per_second, bar, reached)


def _compaction(form: Form, share: int) -> Iterator[Figure]:
    """Last of all: it leaves much to be merged."""
    shapes = {(10, 100): 3_000_000 // share, (1_000, 1): 1_000_000 // share}
    found = compaction.measure(form, 3, 500_000 // share, shapes)
    for (columns, steps), rates in found.rates.items():
        on, off = rates.medians
        name = f"{form.name}: {columns} metrics x {steps} steps a request beside compaction ({rates.spread}; "
        name += f"{found.merged:,} chunks merged meanwhile)"
        yield Figure(name, on, "points/s", "compaction off", off, "ratio 0.9", on >= 0.9 * off)


def _purging(form: Form, share: int) -> Iterator[Figure]:
    points = 10_000_000 // share
    cost = purging.measure(form, points, points)
    name = f"{form.name}: ingest beside a purge of {points:,} points (three times, {cost.seconds:.1f} s each)"
    alone, beside = cost.rate_alone, cost.rate_beside
    yield Figure(name, beside, "points/s", "without it", alone, "ratio 0.9", beside >= 0.9 * alone)
    more = cost.mib_beside - cost.mib_alone
    name = f"{form.name}: memory of the consumer beside that purge, over without it"
    yield Figure(name, more, "MiB", "without it", cost.mib_alone, "100 MiB", more <= 100)


def _at_most(name: str, seconds: float, most: float) -> Figure:
    """A time, with its bar."""
    return Figure(name, seconds * 1000, "ms", bar=f"{most * 1000:,.0f} ms", reached=seconds <= most)


GROUPS: Final = (
    Group("step-by-step", _step_by_step, full_only=True),
    Group("ingest", _ingest),
    Group("log", _log),
    Group("history", _history),
    Group("long-history", _long_history),
    Group("visible", _visible),
    Group("visible-under-load", _visible_under_load),
    Group("experiment", _experiment),
    Group("growth", _growth, full_only=True),
    Group("memory", _memory, full_only=True),
    Group("purging", _purging, full_only=True),
    Group("client-memory", _client_memory, full_only=True),
    Group("calls", _calls),
    Group("compaction", _compaction, full_only=True),
)
"""In the order in which they are measured."""
