"""TensorBoard's event files: written by tensorboardX, read by TensorBoard's own EventAccumulator."""

from __future__ import annotations

from collections.abc import Sequence

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter

from benchmarks.peers.driver import Driver, Recorder, Series, files_bytes


class _Recorder(Recorder):
    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, number in values.items():
            self._writer.add_scalar(name, number, step)

    def finish(self) -> None:
        self._writer.close()


class _Driver(Driver):
    def open(self, run: str) -> Recorder:
        return _Recorder(SummaryWriter(str(self.directory / "events" / run)))

    def series(self, run: str, name: str) -> Series:
        return self.all_series(run, [name])[name]

    def all_series(self, run: str, names: Sequence[str]) -> dict[str, Series]:
        read = self._read(run, keep=0)
        tags = set(read.Tags()["scalars"])
        return {
            name: ([point.step for point in points], [point.value for point in points])
            for name in names
            for points in [read.Scalars(name) if name in tags else []]
        }

    def summary(self, run: str) -> dict[str, float]:
        read = self._read(run, keep=1)
        return {name: read.Scalars(name)[-1].value for name in read.Tags()["scalars"]}

    def _read(self, run: str, keep: int) -> EventAccumulator:
        """keep: of how many points a metric; 0: all."""
        return EventAccumulator(str(self.directory / "events" / run), size_guidance={"scalars": keep}).Reload()

    def stored_bytes(self) -> int:
        return files_bytes(self.directory / "events")


driver = _Driver
