"""This project. Ways: run (`run.log()` of a training script), blocks (`TrackerClient.log_metrics`, each call acknowledged)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import tracker_client
from benchmarks.peers.driver import Driver, Recorder, Series, Target, postgresql_bytes, sqlite_bytes
from tracker.v1.resources_pb2 import MetricBlock, MetricColumn
from tracker.v1.tracker_service_pb2 import LogMetricsRequest, StartRunRequest
from tracker_client import TrackerClient
from tracker_client.errors import NotFound
from tracker_client.sender.sync import sync_directory

_EXPERIMENT: Final = "peers"
_BLOCK_STEPS: Final = 1_000
_SECONDS: Final = 120.0


class _Run(Recorder):
    def __init__(self, run: tracker_client.Run, client: TrackerClient) -> None:
        self._run = run
        self._client = client

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def finish(self) -> None:
        assert self._run.finish(timeout=_SECONDS), "the run has not arrived"
        self._client.get_run(self._run.id, write_tokens=[self._run.write_token], timeout=_SECONDS)


class _Blocks(Recorder):
    def __init__(self, run_id: str, client: TrackerClient) -> None:
        self._run_id = run_id
        self._client = client
        self._token = client.start_run(StartRunRequest(run_id=run_id, experiment_id=_EXPERIMENT)).write_token

    def log(self, step: int, values: dict[str, float]) -> None:
        columns = [MetricColumn(name=name, values=[number]) for name, number in values.items()]
        self._send(MetricBlock(steps=[step], columns=columns))

    def bulk(self, rows: Sequence[dict[str, float]]) -> None:
        for first in range(0, len(rows), _BLOCK_STEPS):
            block = rows[first : first + _BLOCK_STEPS]
            columns = [MetricColumn(name=name, values=[row[name] for row in block]) for name in rows[0]]
            self._send(MetricBlock(steps=range(first, first + len(block)), columns=columns))

    def _send(self, block: MetricBlock) -> None:
        request = LogMetricsRequest(run_id=self._run_id, blocks=[block])
        self._token = self._client.log_metrics(request, timeout=_SECONDS).write_token

    def finish(self) -> None:
        self._client.get_run(self._run_id, write_tokens=[self._token], timeout=_SECONDS)


class _Driver(Driver):
    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._client = TrackerClient(target.address)

    def open(self, run: str) -> Recorder:
        if self.target.way == "blocks":
            return _Blocks(run, self._client)
        opened = tracker_client.init(
            _EXPERIMENT,
            run_id=run,
            server=self.target.address,
            directory=self._journals(run),
            capture=False,
            on_error="raise",
        )
        return _Run(opened, self._client)

    def series(self, run: str, name: str) -> Series:
        try:
            (series,) = self._client.get_metric_history(run, name)
        except NotFound:
            # Of a run whose client was killed before anything of it had arrived.
            return (), ()
        return series.steps, series.values

    def summary(self, run: str) -> dict[str, float]:
        return {metric.name: metric.last.value for metric in self._client.get_run(run).metrics}

    def recover(self, run: str) -> str:
        sync_directory(self._journals(run), timeout=_SECONDS)
        return "`tracker sync`"

    def _journals(self, run: str) -> Path:
        """Of each run its own, as if on machines of their own: none waits for the sender of the one before to end."""
        return self.directory / "journals" / run

    def stored_bytes(self) -> int:
        if self.target.database.startswith("sqlite:///"):
            return sqlite_bytes(Path(self.target.database.removeprefix("sqlite:///")))
        return postgresql_bytes(self.target.database)


driver = _Driver
