"""MLflow: its client against its server. Ways: sync (every call waits for the server), async (synchronous=False)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import mlflow
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from benchmarks.peers import work
from benchmarks.peers.driver import Driver, Recorder, Series, Target, postgresql_bytes, sqlite_bytes

_EXPERIMENT: Final = "0"
"""The default experiment, which every server has."""


class _Recorder(Recorder):
    def __init__(self, client: MlflowClient, run_id: str, synchronous: bool) -> None:
        self._client = client
        self._run_id = run_id
        self._synchronous = synchronous

    def log(self, step: int, values: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        if len(values) == 1:
            ((name, number),) = values.items()
            self._client.log_metric(self._run_id, name, number, now, step, synchronous=self._synchronous)
        else:
            metrics = [Metric(name, number, now, step) for name, number in values.items()]
            self._client.log_batch(self._run_id, metrics=metrics, synchronous=self._synchronous)

    def bulk(self, rows: Sequence[dict[str, float]]) -> None:
        a_batch = work.BATCH_POINTS // len(rows[0])
        for first in range(0, len(rows), a_batch):
            now = int(time.time() * 1000)
            points = [
                Metric(name, number, now, step)
                for step, row in enumerate(rows[first : first + a_batch], start=first)
                for name, number in row.items()
            ]
            self._client.log_batch(self._run_id, metrics=points, synchronous=self._synchronous)

    def finish(self) -> None:
        if not self._synchronous:
            mlflow.flush_async_logging()
        self._client.set_terminated(self._run_id)


class _Driver(Driver):
    def __init__(self, target: Target) -> None:
        super().__init__(target)
        mlflow.set_tracking_uri(target.address)
        self._client = MlflowClient(target.address)

    def open(self, run: str) -> Recorder:
        run_id = self._client.create_run(_EXPERIMENT, run_name=run).info.run_id
        self.remember(run, run_id)
        return _Recorder(self._client, run_id, self.target.way == "sync")

    def series(self, run: str, name: str) -> Series:
        points = self._client.get_metric_history(self.remembered(run), name)
        return [point.step for point in points], [point.value for point in points]

    def summary(self, run: str) -> dict[str, float]:
        return dict(self._client.get_run(self.remembered(run)).data.metrics)

    def stored_bytes(self) -> int:
        if self.target.database.startswith("sqlite:///"):
            return sqlite_bytes(Path(self.target.database.removeprefix("sqlite:///")))
        return postgresql_bytes(self.target.database)


driver = _Driver
