"""What a reader makes of files, and what a tracker shows of a run, in a form that tests can compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.importers.stub_client import StubClient
from tracker.v1 import tracker_service_pb2 as public
from tracker_client.importers.csv_mapping import CsvMapping
from tracker_client.importers.detect import FoundRun, find_runs, make_readers
from tracker_client.importers.records import (
    Ignored,
    Points,
    Problem,
    Record,
    RunEnd,
    RunFacts,
    RunSource,
    RunStart,
)

Series = dict[str, list[tuple[int, float]]]


@dataclass(slots=True)
class Read:
    """All records of one run."""

    source: RunSource
    start: RunStart
    end: RunEnd | None = None
    series: Series = field(default_factory=lambda: defaultdict(list))
    times_ms: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    config: dict[str, object] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def find(*paths: Path, formats: Iterable[str] | None = None) -> tuple[list[FoundRun], list[Problem]]:
    """Runs and problems."""
    found = list(find_runs(paths, make_readers(None if formats is None else list(formats))))
    return [f for f in found if isinstance(f, FoundRun)], [f for f in found if isinstance(f, Problem)]


def read_all(path: Path, *formats: str, mapping: CsvMapping | None = None) -> list[Read]:
    """Every run beneath a path."""
    found = find_runs([path], make_readers(formats or None, mapping))
    return [collect(f.source, f.reader.read(f.source)) for f in found if isinstance(f, FoundRun)]


def read_one(path: Path, *formats: str, mapping: CsvMapping | None = None) -> Read:
    """The only run beneath a path."""
    (read,) = read_all(path, *formats, mapping=mapping)
    return read


def collect(source: RunSource, records: Iterable[Record]) -> Read:
    """A stream, taken apart."""
    stream = iter(records)
    start = next(stream)
    assert isinstance(start, RunStart)
    read = Read(source, start, config=dict(start.config))
    for record in stream:
        assert read.end is None, "a record after the end"
        match record:
            case Points(blocks):
                for block in blocks:
                    for name, values in block.columns.items():
                        read.series[name] += zip(block.steps, values, strict=True)
                        read.times_ms[name] += block.times_ms
            case RunFacts(config=config):
                read.config |= config
            case Ignored(name, count):
                read.ignored[name] = count
            case Problem():
                read.problems.append(record)
            case RunEnd():
                read.end = record
    return read


def shown(client: StubClient, run_id: str) -> Series:
    """The points of every metric of a run, as a tracker gives them."""
    names = [metric.name for metric in client.get_run(run_id).metrics if metric.count]
    if not names:
        return {}
    request = public.GetMetricHistoryRequest(run_ids=[run_id], metrics=names)
    answer: public.GetMetricHistoryResponse = client.stub.GetMetricHistory(request, timeout=30)
    assert not answer.next_page_token
    return {series.name: list(zip(series.steps, series.values, strict=True)) for series in answer.series}
