"""Aim: its SDK on a local repository, `track` with a dict."""

from __future__ import annotations

from aim import Repo, Run
from aim.sdk.index_manager import RepoIndexManager
from aim.storage.context import Context

from benchmarks.peers.driver import Driver, Recorder, Series, Target, files_bytes

_NO_CONTEXT = Context({})


class _Recorder(Recorder):
    def __init__(self, run: Run) -> None:
        self._run = run

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.track(values, step=step)

    def finish(self) -> None:
        self._run.close()


class _Driver(Driver):
    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._path = str(self.directory / "repository")

    def open(self, run: str) -> Recorder:
        opened = Run(
            repo=self._path,
            experiment="peers",
            system_tracking_interval=None,
            capture_terminal_logs=False,
            log_system_params=False,
        )
        self.remember(run, opened.hash)
        return _Recorder(opened)

    def before_reads(self, run: str) -> None:
        # Aim's readers see what is indexed; a thread of `aim up` does it, with this.
        RepoIndexManager.get_index_manager(Repo(self._path)).index(self.remembered(run))

    def series(self, run: str, name: str) -> Series:
        metric = self._read(run).get_metric(name, _NO_CONTEXT)
        if metric is None:
            return (), ()
        steps, (values, *_) = metric.data.numpy()
        return steps.tolist(), values.tolist()

    def summary(self, run: str) -> dict[str, float]:
        found = self._read(run).collect_sequence_info("metric")["metric"]
        return {one["name"]: one["values"]["last"] for one in found}

    def _read(self, run: str) -> Run:
        return Run(self.remembered(run), repo=self._path, read_only=True)

    def stored_bytes(self) -> int:
        return files_bytes(self.directory / "repository")


driver = _Driver
