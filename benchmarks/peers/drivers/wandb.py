"""W&B offline: its client into its `.wandb` file. It ships no reader of that file; this project's importer reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmarks.peers.driver import Driver, NotOffered, Recorder, Series, files_bytes


class _Recorder(Recorder):
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def finish(self) -> None:
        self._run.finish()


class _Driver(Driver):
    def open(self, run: str) -> Recorder:
        import wandb  # not in the environment in which its file is read

        settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True, silent=True)
        return _Recorder(
            wandb.init(project="peers", id=run, dir=str(self.directory), mode="offline", settings=settings, reinit=True)
        )

    def series(self, run: str, name: str) -> Series:
        return self.all_series(run, [name]).get(name, ((), ()))

    def all_series(self, run: str, names: Sequence[str]) -> dict[str, Series]:
        from tracker_client.importers.wandb_records import read_records  # in the project's own environment

        wanted = set(names)
        found: dict[str, tuple[list[int], list[float]]] = {name: ([], []) for name in names}
        (path,) = self.directory.glob(f"wandb/offline-run-*-{run}/run-{run}.wandb")
        for record in read_records(path):
            if isinstance(record, str) or not record.HasField("history"):
                continue
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                if name in wanted:
                    steps, values = found[name]
                    steps.append(record.history.step.num)
                    values.append(json.loads(item.value_json))
        return dict(found)

    def summary(self, run: str) -> dict[str, float]:  # noqa: ARG002 - of the interface
        raise NotOffered("offline there is no reader")

    def stored_bytes(self) -> int:
        return files_bytes(self.directory, "*.wandb")


driver = _Driver
