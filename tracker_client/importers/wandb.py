"""W&B's `.wandb` files, as its offline mode and its online mode write them. Files of one run id, as resuming it makes
them, are one run.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracker.v1.resources_pb2 import RunStatus
from tracker_client.importers.identity import changed_ms, id_from_key
from tracker_client.importers.json_lines import flattened
from tracker_client.importers.point_buffer import PointBuffer
from tracker_client.importers.records import (
    Folder,
    Ignored,
    Problem,
    ReadError,
    Record,
    RunEnd,
    RunFacts,
    RunSource,
    RunStart,
)
from tracker_client.importers.values import as_moment, as_number, seconds_to_ms
from tracker_client.importers.wandb_records import read_records

_FILE = re.compile(r"run-(.+)\.wandb")
_STEP, _TIME, _INTERNAL = "_step", "_timestamp", "_wandb"
_SYSTEM = "system/"


class WandbReader:
    """History, system metrics, config, summary (as final metrics), tags and exit."""

    format = "wandb"

    def find(self, folder: Folder) -> Iterator[RunSource | Problem]:
        """W&B makes a folder for each process, so the other files of a run are in the folders beside this one."""
        for name in folder.files:
            match = _FILE.fullmatch(name)
            if match is None:
                if name.endswith(".wandb"):
                    yield Problem(str(folder.path / name), "not named run-ID.wandb, as W&B names its files; left out")
                continue
            files = [folder.path / name]
            if "run-" in folder.path.name:
                files = sorted(folder.path.parent.glob(f"*run-*/{_escaped(name)}"), key=_started)
            # Folders are named by the second of their making, so the key does not depend on where they lie.
            key = f"wandb\0{match[1]}\0{files[0].parent.name}"
            yield RunSource(
                format=self.format,
                path=folder.path / name if len(files) == 1 else files[0].parent.parent / name,
                files=tuple(files),
                key=key,
                run_id=id_from_key((match[1],), key),
                name=match[1],
            )

    def read(self, source: RunSource) -> Iterator[Record]:
        """File by file, record by record."""
        run = _Run(source, changed_ms(source))
        for path in source.files:
            for record in read_records(path):
                if isinstance(record, str):
                    run.problems.append(Problem(str(path), record))
                else:
                    yield from run.take(record)
        if not run.started:
            raise ReadError(f"{source.path} has no run: W&B wrote nothing into it but, at most, its header")
        yield from run.finish()


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _started(path: Path) -> str:
    return path.parent.name.partition("run-")[2]


@dataclass(slots=True)
class _Run:
    """One run while it is read."""

    source: RunSource
    changed_ms: int
    started: bool = False
    steps: int = 0
    system_rows: int = 0
    last_ms: int | None = None
    exit_code: int | None = None
    summary: dict[str, object] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    buffer: PointBuffer = field(init=False)

    def __post_init__(self) -> None:
        self.buffer = PointBuffer(str(self.source.path), self.changed_ms)

    def take(self, record: Any) -> Iterator[Record]:
        """One record."""
        if record.HasField("run"):
            yield from self._run(record.run)
            self.exit_code = None
        if not self.started:
            return
        if record.HasField("config"):
            yield RunFacts(config=_config(record.config))
        if record.HasField("history"):
            yield from self._history(record.history)
        if record.HasField("stats"):
            yield from self._stats(record.stats)
        if record.HasField("summary"):
            self._summarize(record.summary)
        if record.HasField("exit"):
            self.exit_code = record.exit.exit_code

    def finish(self) -> Iterator[Record]:
        """The end of the run; one without an exit has none."""
        yield from self.buffer.take()
        yield from self.buffer.problems()
        yield from self.problems
        for name, count in self.ignored.items():
            yield Ignored(name, count, "text, media and the like")
        if self.exit_code is not None:
            finals = {name: as_number(value) for name, value in self.summary.items() if not name.startswith("_")}
            yield RunEnd(
                ended_ms=self.changed_ms if self.last_ms is None else self.last_ms,
                status=RunStatus.RUN_STATUS_FAILED if self.exit_code else RunStatus.RUN_STATUS_COMPLETED,
                final_metrics={name: value for name, value in finals.items() if value is not None},
                metadata={"wandb.exit_code": str(self.exit_code)},
            )

    def _run(self, run: Any) -> Iterator[Record]:
        self._summarize(run.summary)
        config = _config(run.config)
        if self.started:
            if config:
                yield RunFacts(config=config)
            return
        self.started = True
        known = {"id": run.run_id, "entity": run.entity, "project": run.project, "notes": run.notes}
        known |= {"group": run.run_group, "job_type": run.job_type}
        started_ms = _moment(run.start_time)
        yield RunStart(
            started_ms=self.changed_ms if started_ms is None else started_ms,
            name=run.display_name,
            experiment=run.project,
            config=config,
            tags=tuple(run.tags),
            metadata={f"wandb.{name}": value for name, value in known.items() if value},
        )

    def _history(self, history: Any) -> Iterator[Record]:
        row = dict(self._items(history.item))
        step = row.get(_STEP)
        if history.HasField("step"):
            step = history.step.num
        step = step if isinstance(step, int) else self.steps
        self.steps = step + 1
        yield from self._points(row, step, as_moment(row.get(_TIME)))

    def _stats(self, stats: Any) -> Iterator[Record]:
        row = {f"{_SYSTEM}{name}": value for name, value in self._items(stats.item)}
        yield from self._points(row, self.system_rows, _moment(stats.timestamp))
        self.system_rows += 1

    def _points(self, row: dict[str, object], step: int, time_ms: int | None) -> Iterator[Record]:
        if time_ms is not None:
            self.last_ms = time_ms if self.last_ms is None else max(self.last_ms, time_ms)
        for name, value in row.items():
            number = as_number(value)
            if name in (_STEP, _TIME):
                continue
            if number is None:
                self.ignored[name] += 1
                continue
            self.buffer.add(name, step, time_ms, number)
            if self.buffer.full:
                yield from self.buffer.take()

    def _summarize(self, summary: Any) -> None:
        for item in summary.remove:
            self.summary.pop(_name(item), None)
        self.summary |= dict(self._items(summary.update))

    def _items(self, items: Any) -> Iterator[tuple[str, object]]:
        for item in items:
            name = _name(item)
            value = _value(item)
            if isinstance(value, dict) and "_type" not in value:
                yield from flattened(value, f"{name}/")
            elif name != _INTERNAL:
                yield name, _special(value)


def _name(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _value(item: Any) -> Any:
    try:
        return json.loads(item.value_json)
    except (ValueError, RecursionError):
        return item.value_json


def _special(value: object) -> object:
    """JSON has no NaN, so W&B writes it and the infinities as text."""
    return float(value) if value in ("NaN", "Infinity", "-Infinity") and isinstance(value, str) else value


def _config(config: Any) -> dict[str, object]:
    """As it was given: older versions wrap each value beside a description."""
    found: dict[str, object] = {}
    for item in config.update:
        name = _name(item)
        value = _value(item)
        if name != _INTERNAL:
            found[name] = (
                value["value"] if isinstance(value, dict) and value.keys() <= {"value", "desc"} and value else value
            )
    return found


def _moment(moment: Any) -> int | None:
    return seconds_to_ms(moment.seconds + moment.nanos / 1e9) if moment.seconds else None
