"""From the records of a source to the requests of an import: the same records are the same requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from tracker.v1.resources_pb2 import MetricBlock, MetricColumn
from tracker.v1.tracker_service_pb2 import LogMetricsRequest, RunCompletedRequest, StartRunRequest
from tracker_client.config import to_config
from tracker_client.importers.identity import id_from_text
from tracker_client.importers.point_buffer import why_refused
from tracker_client.importers.records import Block, Ignored, Points, Problem, Record, RunEnd, RunFacts, RunStart
from tracker_client.importers.report import Tally
from tracker_client.importers.side_config import sendable

Request: TypeAlias = StartRunRequest | LogMetricsRequest | RunCompletedRequest
_MAX_TEXT_LENGTH = 65_536
_MAX_NAME_LENGTH = 256
_MAX_ENTRIES = 1_000
_MAX_METADATA_BYTES = 512 * 1024
"""A start with as much, and with the largest config, still is a request that servers take."""
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Experiments:
    """Which experiment runs go into, as ids."""

    named: str
    """By the user; empty: none."""
    folder: str
    """For runs that name none themselves."""

    def of(self, start: RunStart) -> str:
        """The experiment of a run."""
        return self.named or (id_from_text(start.experiment) if start.experiment else self.folder)


@dataclass(frozen=True, slots=True)
class Writer:
    """On whose behalf requests are made."""

    run_id: str
    experiments: Experiments
    is_new: bool
    """There is no run of this id yet. One that is there keeps its experiment, unless the user names one."""
    name: str
    writer_id: str
    attempt: int
    metadata: Mapping[str, str]
    """Goes with the start, beside the source's own."""


def make_requests(records: Iterable[Record], writer: Writer, tally: Tally) -> Iterator[Request]:
    """The requests with their sequences, counting from 1; the first is the start. The tally gets what is no request."""
    sequence = 0
    started = Timestamp()
    for record in records:
        request: Request
        if isinstance(record, RunStart):
            started.FromMilliseconds(record.started_ms)
            tally.columns = record.columns
            request = _start(record, started, writer, tally)
        elif isinstance(record, RunFacts):
            # A second start of an attempt adds to the first.
            request = _start(record, started, writer, tally)
        elif isinstance(record, Points):
            tally.points(record)
            request = LogMetricsRequest(blocks=map(_block, record.blocks))
        elif isinstance(record, RunEnd):
            request = _end(record, tally)
        else:
            _note(record, tally)
            continue
        sequence += 1
        request.run_id, request.writer_id = writer.run_id, writer.writer_id
        request.attempt, request.sequence, request.replay = writer.attempt, sequence, True
        yield request


def _note(record: Ignored | Problem, tally: Tally) -> None:
    if isinstance(record, Ignored):
        tally.ignore(record)
    else:
        tally.tell((record,))


def _start(record: RunStart | RunFacts, started: Timestamp, writer: Writer, tally: Tally) -> StartRunRequest:
    config, problems = sendable(dict(record.config), tally.path)
    tally.tell(problems)
    request = StartRunRequest(config=to_config(config), timestamp=started)
    own: Mapping[str, str] = {}
    if isinstance(record, RunStart):
        own = writer.metadata
        chosen = writer.experiments.of(record)
        request.experiment_id = chosen if writer.is_new else writer.experiments.named
        tally.experiment_id = tally.experiment_id or chosen
        request.name = _text((record.name or writer.name)[:_MAX_NAME_LENGTH])
        request.tags.extend(_text(tag) for tag in record.tags[:_MAX_ENTRIES] if 1 <= len(tag) <= _MAX_NAME_LENGTH)
    _fill_metadata(request.metadata, {**own, **record.metadata, **own}, tally)
    return request


def _end(record: RunEnd, tally: Tally) -> RunCompletedRequest:
    request = RunCompletedRequest(status=record.status)
    request.timestamp.FromMilliseconds(record.ended_ms)
    finals = {name: value for name, value in record.final_metrics.items() if not why_refused(name)}
    request.final_metrics.update(_limited(finals, "final metrics", tally))
    _fill_metadata(request.metadata, record.metadata, tally)
    return request


def _block(block: Block) -> MetricBlock:
    columns = [MetricColumn(name=name, values=values) for name, values in block.columns.items()]
    return MetricBlock(steps=block.steps, times_unix_ms=block.times_ms, columns=columns)


def _fill_metadata(into: Mapping[str, str], metadata: Mapping[str, str], tally: Tally) -> None:
    good = {}
    size = 0
    for key, value in metadata.items():
        why = why_refused(key)
        if len(value) > _MAX_TEXT_LENGTH:
            why = f"it has {len(value)} characters, at most {_MAX_TEXT_LENGTH} are taken"
        elif size + len(value.encode(errors="replace")) > _MAX_METADATA_BYTES:
            why = f"all metadata together have more than {_MAX_METADATA_BYTES} bytes"
        if why:
            tally.tell([Problem(tally.path, f"{why}; left out", f"metadata {key[:60]!r}")])
        else:
            good[key] = _text(value)
            size += len(good[key].encode())
    for key, value in _limited(good, "metadata", tally).items():
        into[key] = value  # type: ignore[index]  # a map of a message, for which its stubs have no name


def _limited(entries: Mapping[str, _V], what: str, tally: Tally) -> Mapping[str, _V]:
    """At most as many as a request takes: the first, among which are the import's own."""
    if len(entries) <= _MAX_ENTRIES:
        return entries
    tally.tell(
        [Problem(tally.path, f"{len(entries)} entries; at most {_MAX_ENTRIES} are taken, others left out", what)]
    )
    return dict(list(entries.items())[:_MAX_ENTRIES])


def _text(text: str) -> str:
    """What UTF-8 can hold and databases can store."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
