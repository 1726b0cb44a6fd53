"""A run's journal in whatever process it is used: made when first needed, left to the parent by a fork, or none at all."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tracker_client.exits import describe
from tracker_client.journal.frames import Identity, Method
from tracker_client.journal.status import Status
from tracker_client.journal.writer import BATCH_BYTES, JournalWriter
from tracker_client.keeper import Keeper
from tracker_client.keepers import keeper_for
from tracker_client.reporter import Reporter
from tracker_client.settings import Mode, Settings

Append = Callable[[Mapping[str, object], "int | None", int], None]


class RunJournal:
    """Where a run's rows and requests go."""

    def __init__(self, settings: Settings, run_id: str, attempt: int, reporter: Reporter) -> None:
        self.settings = settings
        self.run_id = run_id
        self.attempt = attempt
        self._reporter = reporter
        # A signal handler that logs may interrupt its very making.
        self._lock = threading.RLock()
        self._keeper: Keeper | None = None
        self.writer: JournalWriter | None = None
        """None before it is first needed, and when nothing can be kept."""
        self.append: Append = _nowhere if settings.mode is Mode.DISABLED else self._append_first
        """Takes a row, see JournalWriter.append. Replaced by the journal's own, so that it costs no further call."""

    @property
    def directory(self) -> Path | None:
        """Where journals are; None when nothing is kept."""
        return None if self.writer is None else self.writer.folder.path.parent.parent

    @property
    def stop_requested(self) -> bool:
        """As the sender was last told."""
        return self.writer is not None and self.writer.status.stop_requested

    @property
    def dropped(self) -> int:
        """Points given up because there was no room for them."""
        return 0 if self.writer is None else self.writer.dropped

    def open(self) -> JournalWriter | None:
        """Makes the journal, unless there is one. None, with a warning, when it cannot be, or nothing is to be kept."""
        with self._lock:
            if self.writer is None and self.append == self._append_first:
                self.writer = self._make()
                self.append = _nowhere if self.writer is None else self.writer.append
            return self.writer

    def send(self, method: Method, request: Any) -> None:
        """Takes a whole request: gives it its writer and sequence. What goes wrong is reported."""
        writer = self.open()
        if writer is None:
            return
        request.writer_id = writer.identity.writer_id

        def encode(sequence: int) -> bytes:
            request.sequence = sequence
            encoded = bytes(request.SerializeToString())
            if len(encoded) > BATCH_BYTES:
                raise ValueError(f"it has {len(encoded)} bytes; at most {BATCH_BYTES} can be sent at once")
            return encoded

        try:
            writer.message(method, encode)
        except Exception as error:  # noqa: BLE001 - whatever it is, training goes on
            self._reporter.warn(f"{method.name.lower()} could not be logged: {describe(error)}", key=method.name)

    def next_step(self) -> int:
        """The step of a row that is given none."""
        return 0 if self.writer is None else self.writer.next_step

    def go_on_from(self, step: int) -> None:
        """The next row that is given no step gets the one after this."""
        writer = self.open()
        if writer is not None:
            writer.next_step = step + 1

    def append_apart(self, metrics: Mapping[str, object], step: int, time_ms: int) -> None:
        """A row that leaves the default step of the next one as it is, see JournalWriter.append_apart."""
        writer = self.open()
        if writer is not None:
            writer.append_apart(metrics, step, time_ms)

    def close(self) -> int:
        """Nothing more will come from this process. Returns the last sequence, 0 when there is no journal. Raises OSError."""
        if self.append != _nowhere:
            self.append = _closed
        return 0 if self.writer is None else self.writer.close()

    def status(self) -> Status:
        """What the sender says."""
        return Status() if self.writer is None else self.writer.status.read()

    def release(self) -> None:
        """Lets go of the files: the sender deletes them when all has arrived. Raises OSError."""
        writer, keeper = self.writer, self._keeper
        if writer is not None and keeper is not None:
            keeper.remove(writer)

    def interrupt(self) -> None:
        """A signal handler has interrupted whatever the journal was doing, and will not return to it."""
        if self.writer is not None:
            self.writer.interrupt()

    def forked(self) -> None:
        """This is the child of a fork: its journal is another one, made once it logs."""
        if self.writer is not None:
            self.writer.disown()
        self.writer = self._keeper = None
        self._lock = threading.RLock()
        if self.append not in (_nowhere, _closed):
            self.append = self._append_first

    def _append_first(self, metrics: Mapping[str, object], step: int | None, time_ms: int) -> None:
        self.open()
        if self.append != self._append_first:
            self.append(metrics, step, time_ms)

    def _make(self) -> JournalWriter | None:
        server = self.settings.server if self.settings.mode is Mode.ONLINE else ""
        identity = Identity(self.run_id, str(uuid.uuid4()), self.attempt, server)
        try:
            keeper = keeper_for(self.settings)
            writer = JournalWriter(keeper.directory, identity, keeper)
        except OSError as error:
            self._reporter.warn(f"nothing of run {self.run_id} can be kept: {error}")
            return None
        keeper.add(writer)
        self._keeper = keeper
        return writer


def _nowhere(metrics: Mapping[str, object], step: int | None, time_ms: int) -> None:
    """Takes a row and forgets it."""


def _closed(*_: object) -> None:
    """Takes no row."""
    raise RuntimeError("the run has finished")
