"""MLflow's file store (`mlruns`): plain text, so read as such, without MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracker.v1.resources_pb2 import RunStatus
from tracker_client.importers.identity import changed_ms, id_from_text
from tracker_client.importers.point_buffer import PointBuffer
from tracker_client.importers.records import Folder, Problem, ReadError, Record, RunEnd, RunSource, RunStart
from tracker_client.importers.values import MAX_TIME_MS, MIN_TIME_MS, as_moment
from tracker_client.importers.yaml_file import YamlError, load_yaml

_META = "meta.yaml"
_STATUSES = {
    3: RunStatus.RUN_STATUS_COMPLETED,
    4: RunStatus.RUN_STATUS_FAILED,
    5: RunStatus.RUN_STATUS_CANCELLED,
}
"""MLflow's numbers of FINISHED, FAILED and KILLED. RUNNING and SCHEDULED are no end."""
_STATUS_NAMES = {"FINISHED": 3, "FAILED": 4, "KILLED": 5}


class MlflowReader:
    """Runs with their params (as config), tags (as metadata) and metrics."""

    format = "mlflow"

    def find(self, folder: Folder) -> Iterator[RunSource | Problem]:
        """One run, when the folder is the folder of one."""
        if _META not in folder.files:
            return
        try:
            meta = load_yaml(folder.path / _META)
        except YamlError as error:
            if any((folder.path / name).is_dir() for name in ("metrics", "params")):
                yield Problem(str(folder.path / _META), f"no YAML, so the run was left out: {error}")
            return
        # Experiments and models have such a file too.
        run = _run_of(meta)
        if not run:
            return
        if meta.get("lifecycle_stage") == "deleted":
            yield Problem(str(folder.path), "deleted in MLflow, so left out")
            return
        yield RunSource(
            format=self.format,
            path=folder.path,
            files=tuple(_files(folder.path)),
            key=f"mlflow\0{run}",
            run_id=id_from_text(run),
            name=str(meta.get("run_name") or _text(folder.path / "tags" / "mlflow.runName") or run)[:256],
        )

    def read(self, source: RunSource) -> Iterator[Record]:
        """Metric by metric, sorted by name."""
        try:
            meta = load_yaml(source.path / _META)
        except YamlError as error:
            raise ReadError(f"{source.path / _META} is no YAML: {error}") from error
        fallback_ms = changed_ms(source)
        started_ms = _moment(meta.get("start_time"))
        tags = dict(_entries(source.path / "tags"))
        experiment = _experiment(source.path.parent)
        yield RunStart(
            started_ms=fallback_ms if started_ms is None else started_ms,
            experiment=experiment,
            config={name: typed(text) for name, text in _entries(source.path / "params")},
            metadata={"mlflow.experiment": experiment, **tags},
        )
        buffer = PointBuffer(str(source.path), fallback_ms)
        metrics = source.path / "metrics"
        for path in source.files:
            if metrics in path.parents:
                yield from _read_metric(path, path.relative_to(metrics).as_posix(), buffer)
        yield from buffer.take()
        yield from buffer.problems()
        status = meta.get("status")
        known = _STATUSES.get(_STATUS_NAMES.get(status, status))
        if known is not None:
            ended_ms = _moment(meta.get("end_time"))
            yield RunEnd(ended_ms=fallback_ms if ended_ms is None else ended_ms, status=known)


def typed(text: str) -> object:
    """A param, of which MLflow keeps only the text: as a number, a boolean or None where it is exactly its text."""
    constants: Mapping[str, object] = {"None": None, "True": True, "False": False}
    if text in constants:
        return constants[text]
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text:
            return value
    return text


def _read_metric(path: Path, name: str, buffer: PointBuffer) -> Iterator[Record]:
    """A line is a time in ms, a value and a step; old versions wrote no step, new ones more after it."""
    bad = 0
    first_bad = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            fields = line.split()
            try:
                time_ms, value = _moment(int(fields[0])), float(fields[1])
                step = int(fields[2]) if len(fields) > 2 else 0
            except (ValueError, IndexError):
                if fields:
                    bad += 1
                    first_bad = first_bad or number
                continue
            buffer.add(name, step, time_ms, value)
            if buffer.full:
                yield from buffer.take()
    if bad:
        yield Problem(str(path), f"no time, value and step; {bad} lines left out", f"line {first_bad}")


def _files(run: Path) -> Iterator[Path]:
    """All that is read of a run, sorted."""
    yield run / _META
    for part in ("metrics", "params", "tags"):
        yield from sorted(path for path in (run / part).rglob("*") if path.is_file())


def _entries(folder: Path) -> Iterator[tuple[str, str]]:
    """Names and texts of the files in a folder; a name with / is a file in a folder below."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), _text(path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    except FileNotFoundError:
        return ""


def _run_of(meta: Any) -> str:
    """The id of a run, of its description; empty when it is the description of something else."""
    if not isinstance(meta, dict) or "artifact_uri" not in meta or "lifecycle_stage" not in meta:
        return ""
    return str(meta.get("run_id") or meta.get("run_uuid") or "")


def _experiment(folder: Path) -> str:
    """The name of the experiment in a folder; its id where its description is missing."""
    try:
        meta = load_yaml(folder / _META)
    except (YamlError, OSError):
        meta = None
    name = meta.get("name") if isinstance(meta, dict) else None
    return str(name or folder.name)


def _moment(value: object) -> int | None:
    # MLflow began with seconds.
    moment = as_moment(value)
    if moment is None and isinstance(value, int) and MIN_TIME_MS <= value <= MAX_TIME_MS:
        return value
    return moment
