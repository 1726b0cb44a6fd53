"""Finds the runs of all formats beneath some paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracker_client.importers.csv_log import CsvReader
from tracker_client.importers.csv_mapping import CsvMapping
from tracker_client.importers.identity import id_from_text
from tracker_client.importers.json_lines import JsonLinesReader
from tracker_client.importers.mlflow import MlflowReader
from tracker_client.importers.records import Folder, Problem, Reader, RunSource
from tracker_client.importers.tensorboard import TensorBoardReader
from tracker_client.importers.trainer_state import TrainerStateReader
from tracker_client.importers.wandb import WandbReader

FORMATS = ("tensorboard", "mlflow", "trainer_state", "csv", "jsonl", "wandb")
"""Names of the formats."""
_NO_LOGS = frozenset({".git", ".hg", ".svn", ".venv", "__pycache__", "node_modules", ".ipynb_checkpoints"})
"""Folders that are not looked into. Other hidden ones are: Guild keeps its runs in `.guild`."""


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run on disk, and which experiment it goes into when neither it nor the user names one."""

    source: RunSource
    reader: Reader
    folder_experiment: str


def make_readers(formats: Sequence[str] | None = None, mapping: CsvMapping | None = None) -> list[Reader]:
    """The readers of these formats; None: of all. Raises ValueError for a format that there is not."""
    readers: Mapping[str, Reader] = {
        reader.format: reader
        for reader in (
            TensorBoardReader(),
            MlflowReader(),
            TrainerStateReader(),
            CsvReader(mapping),
            JsonLinesReader(),
            WandbReader(),
        )
    }
    unknown = [name for name in formats or () if name not in readers]
    if unknown:
        raise ValueError(f"there is no format {', '.join(map(repr, unknown))}; there are {', '.join(FORMATS)}")
    return [readers[name] for name in FORMATS if formats is None or name in formats]


def find_runs(paths: Iterable[str | Path], readers: Sequence[Reader]) -> Iterator[FoundRun | Problem]:
    """Every run once, in the order of paths and names."""
    seen: dict[str, RunSource] = {}
    for given in paths:
        root = Path(given).resolve()
        if not root.exists():
            yield Problem(str(given), "there is no such file or folder")
            continue
        folder_name = (root if root.is_dir() else root.parent).name or "default"
        found_any = False
        for found in _find(root, readers):
            found_any = True
            if isinstance(found, Problem):
                yield found
                continue
            source, reader = found
            earlier = seen.setdefault(source.run_id, source)
            if earlier is source:
                yield FoundRun(source, reader, id_from_text(folder_name))
            elif earlier.files != source.files:
                yield Problem(str(source.path), f"another copy of the run in {earlier.path}; left out")
        if not found_any:
            yield Problem(str(given), f"nothing to import: no run of {', '.join(reader.format for reader in readers)}")


def _find(root: Path, readers: Sequence[Reader]) -> Iterator[tuple[RunSource, Reader] | Problem]:
    for folder in _folders(root):
        if isinstance(folder, Problem):
            yield folder
            continue
        for reader in readers:
            try:
                for found in reader.find(folder):
                    yield found if isinstance(found, Problem) else (found, reader)
            except Exception as error:  # noqa: BLE001 - files come from anywhere: none may end an import
                yield Problem(str(folder.path), f"cannot be looked through for {reader.format}: {error!r}")


def _folders(root: Path) -> Iterator[Folder | Problem]:
    if root.is_file():
        yield Folder(root.parent, (root.name,), named=True)
        return
    errors: list[OSError] = []
    for path, folders, files in os.walk(root, onerror=errors.append):
        folders[:] = sorted(name for name in folders if name not in _NO_LOGS)
        yield Folder(Path(path), tuple(sorted(files)))
        while errors:
            error = errors.pop()
            yield Problem(str(error.filename), f"cannot be looked into: {error.strerror}")
