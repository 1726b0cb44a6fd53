"""Hugging Face's `trainer_state.json`. An output folder is one run: its checkpoints tell the same story up to a point,
and the longest of them is taken.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker_client.importers.identity import changed_ms, id_from_key, readable_parts
from tracker_client.importers.point_buffer import PointBuffer
from tracker_client.importers.records import (
    END_NOT_RECORDED,
    Folder,
    Ignored,
    Problem,
    ReadError,
    Record,
    RunEnd,
    RunSource,
    RunStart,
)
from tracker_client.importers.values import as_number, as_step

_FILE = "trainer_state.json"
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_HISTORY = "log_history"
_PROGRESS = ("epoch", "global_step", "best_metric", "best_global_step", "best_model_checkpoint", "total_flos")
"""How far it came: metadata. Other plain values are the config."""


class TrainerStateReader:
    """Every number of every entry of `log_history`."""

    format = "trainer_state"

    def __init__(self) -> None:
        self._seen: set[Path] = set()

    def find(self, folder: Folder) -> Iterator[RunSource | Problem]:
        """The run of an output folder, whether the folder is that one or one of its checkpoints.

        A checkpoint that tells another story than the longest one is a run of its own.
        """
        if folder.named:
            others = [folder.path / name for name in folder.files if name != _FILE and name.endswith(".json")]
            for path in others:
                if isinstance(_load(path), _State):
                    yield _source(path, path.with_suffix(""))
        if _FILE not in folder.files:
            return
        output = folder.path.parent if _CHECKPOINT.fullmatch(folder.path.name) else folder.path
        if output in self._seen:
            return
        self._seen.add(output)
        yield from _runs_of(output)

    def read(self, source: RunSource) -> Iterator[Record]:
        """The whole document is in memory; they are made to be small."""
        path = source.files[0]
        state = _load(path)
        if isinstance(state, Problem):
            raise ReadError(str(state))
        at_ms = changed_ms(source)
        plain = {key: value for key, value in state.fields.items() if isinstance(value, str | int | float | dict)}
        yield RunStart(
            started_ms=at_ms,
            config={key: value for key, value in plain.items() if key not in (*_PROGRESS, "stateful_callbacks")},
            metadata={f"trainer.{key}": str(plain[key]) for key in _PROGRESS if key in plain},
        )
        buffer = PointBuffer(str(path), at_ms)
        ignored: Counter[str] = Counter()
        for position, entry in enumerate(state.history):
            step = as_step(entry.get("step")) if isinstance(entry, dict) else None
            if step is None:
                yield Problem(str(path), "the entry has no step; left out", f"{_HISTORY}[{position}]")
                continue
            for name, value in entry.items():
                number = None if name == "step" else as_number(value)
                if number is not None:
                    buffer.add(name, step, None, number)
                elif name != "step":
                    ignored[name] += 1
                if buffer.full:
                    yield from buffer.take()
        yield from buffer.take()
        yield from buffer.problems()
        for name, count in ignored.items():
            yield Ignored(name, count, "text and the like")
        yield RunEnd(ended_ms=at_ms, metadata=END_NOT_RECORDED)


@dataclass(frozen=True, slots=True)
class _State:
    fields: dict[str, Any]
    history: list[Any]

    def digests(self) -> list[int]:
        """One number an entry. repr, since NaN is not equal to itself."""
        return [hash(repr(entry)) for entry in self.history]


def _runs_of(output: Path) -> Iterator[RunSource | Problem]:
    states: list[tuple[list[int], float, Path]] = []
    for path in [output / _FILE, *sorted(output.glob(f"checkpoint-*/{_FILE}"))]:
        if not path.is_file():
            continue
        state = _load(path)
        if isinstance(state, Problem):
            yield state
        else:
            states.append((state.digests(), path.stat().st_mtime, path))
    if not states:
        return
    # The longest; of equal ones the newest.
    longest, _, chosen = max(states, key=lambda state: (len(state[0]), state[1]))
    yield _source(chosen, output)
    for digests, _, path in states:
        if digests != longest[: len(digests)]:
            yield _source(path, path.parent)


def _source(path: Path, run: Path) -> RunSource:
    key = f"trainer_state\0{run}"
    parts = readable_parts(run / "_", ("_",))
    return RunSource("trainer_state", path, (path,), key, id_from_key(parts, key), "/".join(parts))


def _load(path: Path) -> _State | Problem:
    try:
        loaded = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return Problem(str(path), f"no JSON, so left out: {error}")
    if not isinstance(loaded, dict) or not isinstance(loaded.get(_HISTORY), list):
        return Problem(str(path), f"has no list {_HISTORY!r}, so it is no trainer state; left out")
    return _State({key: value for key, value in loaded.items() if key != _HISTORY}, loaded[_HISTORY])
