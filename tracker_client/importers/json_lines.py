"""Logs of one JSON object a line: detectron2's metrics.json, RLlib's result.json, *.jsonl."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from tracker_client.importers.csv_mapping import STEP_NAMES, TIME_NAMES
from tracker_client.importers.identity import changed_ms, id_from_key, readable_parts
from tracker_client.importers.point_buffer import PointBuffer
from tracker_client.importers.records import (
    END_NOT_RECORDED,
    Folder,
    Ignored,
    Problem,
    Record,
    RunEnd,
    RunSource,
    RunStart,
)
from tracker_client.importers.side_config import SIDE_FILES, read_side_config
from tracker_client.importers.values import as_moment, as_number, as_step

_LOG_NAMES = ("metrics.json", "result.json", "scalars.json", ".log.json", ".jsonl", ".ndjson")
"""How names of such files end: detectron2's, RLlib's, those of OpenMMLab's two generations, and everybody's."""
_GENERIC = ("metrics", "result", "log")
_CONFIG = "config"
_SAMPLE_LINES = 100


class JsonLinesReader:
    """One file, one run; nested names are joined with /."""

    format = "jsonl"

    def find(self, folder: Folder) -> Iterator[RunSource | Problem]:
        """Files of such names whose lines have a step, or that were named."""
        side = [folder.path / name for name in SIDE_FILES if (folder.path / name).is_file()]
        for name in folder.files:
            path = folder.path / name
            if not name.lower().endswith(_LOG_NAMES):
                continue
            try:
                sample = list(_objects(path, _SAMPLE_LINES))
            except OSError as error:
                yield Problem(str(path), f"cannot be read: {error.strerror}")
                continue
            if not sample:
                yield Problem(str(path), "has no line with a JSON object of its own: left out")
            elif not (folder.named or _step_name(sample)):
                yield Problem(str(path), "no log as far as one can see (no step): left out. Name it to take it")
            else:
                key = f"jsonl\0{path}"
                parts = readable_parts(path, _GENERIC)
                yield RunSource(self.format, path, (path, *side), key, id_from_key(parts, key), "/".join(parts))

    def read(self, source: RunSource) -> Iterator[Record]:
        """Line by line."""
        path = source.files[0]
        at_ms = changed_ms(source)
        sample = list(_objects(path, _SAMPLE_LINES))
        time = next((name for name in TIME_NAMES if sample and as_moment(sample[0].get(name)) is not None), "")
        first_ms = as_moment(sample[0].get(time)) if sample else None
        side, problems = read_side_config(source)
        own = sample[0].get(_CONFIG) if sample else None
        yield RunStart(
            started_ms=at_ms if first_ms is None else first_ms,
            config={**(own if isinstance(own, dict) else {}), **side},
        )
        yield from problems
        buffer = PointBuffer(str(path), at_ms)
        last_ms = yield from _read_lines(path, _step_name(sample), time, buffer)
        yield from buffer.problems()
        yield RunEnd(ended_ms=at_ms if last_ms is None else last_ms, metadata=END_NOT_RECORDED)


def _read_lines(path: Path, step_name: str, time: str, buffer: PointBuffer) -> Generator[Record, None, int | None]:
    """Returns the latest moment of a line."""
    step = -1
    last_ms: int | None = None
    ignored: Counter[str] = Counter()
    for line, entry in _lines(path):
        if isinstance(entry, str):
            yield Problem(str(path), entry, f"line {line}")
            continue
        found = as_step(entry.get(step_name)) if step_name else step + 1
        if found is None:
            yield Problem(str(path), f"no whole number as {step_name!r}; left out", f"line {line}")
            continue
        step, time_ms = found, as_moment(entry.get(time))
        if time_ms is not None:
            last_ms = time_ms if last_ms is None else max(last_ms, time_ms)
        for name, value in flattened(entry):
            if name in (step_name, time) or name.startswith(f"{_CONFIG}/"):
                continue
            number = as_number(value)
            if number is None:
                ignored[name] += 1
            else:
                buffer.add(name, step, time_ms, number)
                if buffer.full:
                    yield from buffer.take()
    yield from buffer.take()
    for name, count in ignored.items():
        yield Ignored(name, count, "text and the like")
    return last_ms


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values, those of nested maps joined with /; empty maps and None are nothing."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{name}/")
        elif value is not None:
            yield f"{prefix}{name}", value


def _step_name(sample: list[dict[str, Any]]) -> str:
    """The step of these lines; empty when none will do."""
    for name in STEP_NAMES:
        given = [entry[name] for entry in sample if entry.get(name) is not None]
        if given and all(as_step(value) is not None for value in given):
            return name
    return ""


def _objects(path: Path, lines: int) -> Iterator[dict[str, Any]]:
    """Those of the first lines that are objects."""
    for _, entry in islice(_lines(path), lines):
        if isinstance(entry, dict):
            yield entry


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Number and object of each line that is not empty; a text says why there is none."""
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if text.isspace():
                continue
            try:
                entry = json.loads(text)
            except (ValueError, RecursionError) as error:
                torn = "cut off" if not text.endswith(b"\n") else "no JSON"
                yield number, f"{torn}; left out: {error}"
                continue
            yield number, entry if isinstance(entry, dict) else "no JSON object; left out"
