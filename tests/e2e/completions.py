"""Runs that start and end, one after the other, in a thread of their own, through whatever happens; and who watches them."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from types import TracebackType
from typing import Self

from deploy.servers.processes import wait_until
from tracker.v1 import tracker_service_pb2 as messages
from tracker.v1.resources_pb2 import RUN_STATUS_COMPLETED, RunUpdate
from tracker_client.client import TrackerClient
from tracker_client.errors import ClientClosed

PATIENT = 60.0


class Completions:
    """Starts and ends runs of one experiment until it is told to stop."""

    def __init__(self, address: str, *, pause: float = 0.02) -> None:
        """pause: seconds between two runs."""
        self.experiment_id = f"watched-{uuid.uuid4().hex[:8]}"
        self.run_ids: list[str] = []
        """Of the runs whose end was acknowledged."""
        self._client = TrackerClient(address, timeout=PATIENT)
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()
        self._client.close()

    def finish(self) -> None:
        """Ends the present run, and begins no more."""
        self._stop.set()
        self._thread.join()

    def wait_for(self, more: int) -> None:
        """Returns when so many more have ended."""
        wanted = len(self.run_ids) + more
        assert wait_until(lambda: len(self.run_ids) >= wanted or not self._thread.is_alive(), PATIENT, interval=0.01)
        assert self._thread.is_alive(), "a call failed"

    def _work(self) -> None:
        writer = uuid.uuid4().hex
        while not self._stop.is_set():
            run_id = f"{self.experiment_id}-{len(self.run_ids)}"
            self._client.start_run(messages.StartRunRequest(run_id=run_id, experiment_id=self.experiment_id, attempt=1))
            self._client.run_completed(
                messages.RunCompletedRequest(
                    run_id=run_id,
                    status=RUN_STATUS_COMPLETED,
                    final_metrics={"number": len(self.run_ids)},
                    attempt=1,
                    writer_id=writer,
                    sequence=1,
                )
            )
            self.run_ids.append(run_id)
            time.sleep(self._pause)


class WatchingThread:
    """A client that watches an experiment, in a thread of its own."""

    def __init__(self, address: str, experiment_id: str) -> None:
        self.updates: list[RunUpdate] = []
        self.answers = 0
        self._client = TrackerClient(address, timeout=PATIENT)
        self._experiment_id = experiment_id
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        assert wait_until(lambda: self.answers > 0, PATIENT, interval=0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._thread.join()

    @property
    def completed(self) -> set[str]:
        """The runs that it has seen completed."""
        return {update.run.run_id for update in list(self.updates) if update.run.status == RUN_STATUS_COMPLETED}

    def wait_for(self, run_ids: list[str], seconds: float = PATIENT) -> None:
        """Returns when it has seen all of these completed, and checks that it was given nothing twice."""
        missing = set(run_ids)
        assert wait_until(lambda: missing <= self.completed, seconds, interval=0.02), missing - self.completed
        given = Counter((update.run.run_id, update.revision) for update in self.updates)
        assert [key for key, count in given.items() if count > 1] == []
        latest: dict[str, int] = {}
        for update in self.updates:
            assert update.revision > latest.get(update.run.run_id, 0)
            latest[update.run.run_id] = update.revision

    def _work(self) -> None:
        try:
            for answer in self._client.watch_runs(self._experiment_id, snapshot=True):
                self.updates += answer.updates
                self.answers += 1
        except ClientClosed:
            pass
