"""TensorBoard event files: every folder with some is one run, as TensorBoard itself has it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracker.v1.resources_pb2 import RunStatus
from tracker_client.importers.identity import changed_ms, id_from_key, readable_parts
from tracker_client.importers.point_buffer import PointBuffer
from tracker_client.importers.records import (
    END_NOT_RECORDED,
    Folder,
    Ignored,
    MissingPackageError,
    Problem,
    ReadError,
    Record,
    RunEnd,
    RunFacts,
    RunSource,
    RunStart,
)
from tracker_client.importers.side_config import SIDE_FILES, read_side_config
from tracker_client.importers.values import seconds_to_ms

_RECORD_FRAME_BYTES = 16
"""Length, its checksum, and the checksum of the data."""
_STATUSES = {1: RunStatus.RUN_STATUS_COMPLETED, 2: RunStatus.RUN_STATUS_FAILED}
"""Of the hparams plugin: success and failure."""


class TensorBoardReader:
    """Scalars, in TF1's form and in TF2's, and what the hparams plugin recorded."""

    format = "tensorboard"

    def find(self, folder: Folder) -> Iterator[RunSource]:
        """One run, when the folder has event files."""
        # TensorBoard's own test of a name. Their names begin with the second of their making.
        names = [name for name in folder.files if "tfevents" in name]
        if not names:
            return
        # The first file's name has the second, the machine and the process of its making: another training in a folder
        # of the same path is another run.
        key = f"tensorboard\0{folder.path}\0{names[0]}"
        side = [folder.path / name for name in SIDE_FILES if (folder.path / name).is_file()]
        parts = readable_parts(folder.path / "_", ("_",))
        yield RunSource(
            format=self.format,
            path=folder.path,
            files=(*(folder.path / name for name in names), *side),
            key=key,
            run_id=id_from_key(parts, key),
            name="/".join(parts),
        )

    def read(self, source: RunSource) -> Iterator[Record]:
        """File by file, in the order of their names."""
        events, load = _tensorboard()
        files = [path for path in source.files if path.name not in SIDE_FILES]
        run = _Run(source, changed_ms(source), events)
        started = False
        for path in files:
            for event in run.events(path, load):
                if not started:
                    started = True
                    yield from run.start(event.wall_time)
                yield from run.take(event)
        if not started:
            if run.problems:
                raise ReadError(str(run.problems[0]))
            # Files that were opened and never written to.
            yield from run.start(float("nan"))
        yield from run.finish()


def _tensorboard() -> tuple[Any, Any]:
    """Its messages and its loader of files. Raises MissingPackageError."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto import event_pb2
    except ImportError as error:
        raise MissingPackageError("TensorBoard event files", "tensorboard") from error
    # It tells of truncated files there; they are told of as problems here.
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    return event_pb2.Event, RawEventFileLoader


@dataclass(slots=True)
class _Run:
    """One run while it is read."""

    source: RunSource
    changed_ms: int
    event_type: Any
    plugins: dict[str, str] = field(default_factory=dict)
    """By tag: files name a tag's plugin with its first value only."""
    ignored: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    buffer: PointBuffer = field(init=False)
    status: RunStatus.ValueType | None = None
    last_ms: int | None = None
    ended_ms: int | None = None

    def __post_init__(self) -> None:
        self.buffer = PointBuffer(str(self.source.path), self.changed_ms)

    def start(self, wall_time: float) -> Iterator[Record]:
        """The run's start, at its first event."""
        config, problems = read_side_config(self.source)
        started_ms = seconds_to_ms(wall_time)
        yield RunStart(
            started_ms=self.changed_ms if started_ms is None else started_ms,
            config=config,
            metadata={"framework.log": "tensorboard"},
        )
        yield from problems

    def events(self, path: Path, load: Any) -> Iterator[Any]:
        """The events of a file up to where it is damaged; then that is noted."""
        from google.protobuf.message import DecodeError

        size, offset = path.stat().st_size, 0
        for raw in load(str(path)).Load():
            try:
                event = self.event_type.FromString(raw)
            except DecodeError:
                self.problems.append(Problem(str(path), "a record is no event; left out", f"byte {offset}"))
            else:
                yield event
            offset += _RECORD_FRAME_BYTES + len(raw)
        if offset < size:
            what = f"cut off or damaged from here on: {size - offset} of {size} bytes left out; what is before went in"
            self.problems.append(Problem(str(path), what, f"byte {offset}"))

    def take(self, event: Any) -> Iterator[Record]:
        """One event."""
        time_ms = seconds_to_ms(event.wall_time)
        for value in event.summary.value:
            number = self._number(value)
            if number is not None:
                self.buffer.add(value.tag, event.step, time_ms, number)
                if self.buffer.full:
                    yield from self.buffer.take()
            elif self.plugins.get(value.tag) == "hparams":
                yield from self._hparams(value)
        if time_ms is not None and event.summary.value:
            self.last_ms = time_ms if self.last_ms is None else max(time_ms, self.last_ms)

    def finish(self) -> Iterator[Record]:
        """The end of the run."""
        yield from self.buffer.take()
        yield from self.buffer.problems()
        yield from self.problems
        for (tag, what), count in self.ignored.items():
            yield Ignored(tag, count, what)
        ended_ms = self.ended_ms or self.last_ms
        yield RunEnd(
            ended_ms=self.changed_ms if ended_ms is None else ended_ms,
            status=RunStatus.RUN_STATUS_COMPLETED if self.status is None else self.status,
            metadata=END_NOT_RECORDED if self.status is None else {},
        )

    def _number(self, value: Any) -> float | None:
        """What a scalar has; None for everything else."""
        kind = value.WhichOneof("value")
        if value.metadata.plugin_data.plugin_name:
            self.plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
        if kind == "simple_value":
            return float(value.simple_value)
        plugin = self.plugins.get(value.tag, "")
        if kind == "tensor" and plugin == "scalars":
            number = _scalar(value.tensor)
            if number is not None:
                return number
        if plugin != "hparams":
            self.ignored[value.tag, plugin or kind or "empty values"] += 1
        return None

    def _hparams(self, value: Any) -> Iterator[Record]:
        from google.protobuf.message import DecodeError
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        try:
            data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        except DecodeError:
            self.problems.append(Problem(str(self.source.path), "is no record of the hparams plugin", value.tag))
            return
        if data.HasField("session_start_info"):
            known = data.session_start_info.hparams.items()
            yield RunFacts(config={name: _plain(item) for name, item in known})
        elif data.HasField("session_end_info"):
            self.status = _STATUSES.get(data.session_end_info.status, self.status)
            self.ended_ms = seconds_to_ms(data.session_end_info.end_time_secs)


def _scalar(tensor: Any) -> float | None:
    """The number of a tensor that holds one; None for another shape or type."""
    from tensorboard.util.tensor_util import make_ndarray

    try:
        numbers = make_ndarray(tensor)
        return float(numbers.item()) if numbers.size == 1 and numbers.dtype.kind in "fiub" else None
    except (TypeError, ValueError):
        return None


def _plain(item: Any) -> object:
    """A google.protobuf.Value as Python has it; a whole number becomes an integer again."""
    kind = item.WhichOneof("kind")
    if kind == "number_value":
        number = float(item.number_value)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return (
        None if kind in (None, "null_value") else getattr(item, kind) if kind != "list_value" else list(item.list_value)
    )
