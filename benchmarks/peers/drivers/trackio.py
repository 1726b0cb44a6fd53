"""trackio: its normal `log` into its local SQLite database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import trackio
from trackio.sqlite_storage import SQLiteStorage

from benchmarks.peers.driver import Driver, NotOffered, Recorder, Series, sqlite_bytes

_PROJECT: Final = "peers"
_SECONDS: Final = 120.0


class _Recorder(Recorder):
    def __init__(self, run: Any, name: str) -> None:
        self._run = run
        self._name = name
        self._steps = 0

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)
        self._steps += 1

    def finish(self) -> None:
        self._run.finish()
        deadline = time.monotonic() + _SECONDS
        while (found := SQLiteStorage.get_log_count(_PROJECT, self._name)) < self._steps:
            assert time.monotonic() < deadline, f"{found} of {self._steps} rows are there after {_SECONDS} s"
            time.sleep(0.005)


class _Driver(Driver):
    def open(self, run: str) -> Recorder:
        opened = trackio.init(_PROJECT, name=run, embed=False, auto_log_gpu=False, auto_log_cpu=False)
        return _Recorder(opened, run)

    def series(self, run: str, name: str) -> Series:
        points = SQLiteStorage.get_metric_values(_PROJECT, run, name)
        return [point["step"] for point in points], [point["value"] for point in points]

    def all_series(self, run: str, names: Sequence[str]) -> dict[str, Series]:
        read = SQLiteStorage.get_snapshot(_PROJECT, run)
        return {
            name: ([point["step"] for point in read[name]], [point["value"] for point in read[name]])
            for name in names
            if name in read
        }

    def summary(self, run: str) -> dict[str, float]:  # noqa: ARG002 - of the interface
        raise NotOffered("no call for it; its readers take all rows")

    def stored_bytes(self) -> int:
        return sqlite_bytes(SQLiteStorage.get_project_db_path(_PROJECT))


driver = _Driver
