"""A run, as a training script has it in hand. None of its methods waits for a server, and none raises what training must not see."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as calls
from tracker_client import requests, values
from tracker_client.exits import describe, exits
from tracker_client.finish import DEFAULT_FINISH_SECONDS, wait_until_sent
from tracker_client.journal.frames import Method
from tracker_client.journal.schema import TooWide
from tracker_client.reporter import Reporter
from tracker_client.run_journal import RunJournal
from tracker_client.run_views import RunConfig, RunSummary

Status = Literal["completed", "failed", "cancelled", "preempted"]
_STATUSES: Final[Mapping[str, data.RunStatus.ValueType]] = {
    "completed": data.RUN_STATUS_COMPLETED,
    "failed": data.RUN_STATUS_FAILED,
    "cancelled": data.RUN_STATUS_CANCELLED,
    "preempted": data.RUN_STATUS_PREEMPTED,
}
_ERROR: Final = "error"
"""Metadata key of what ended a run, for readers that do not know of its reason."""
_DEFAULT_EXPERIMENT: Final = "default"
"""Where a run is that names none."""


class Run:
    """One training job. Made by `tracker_client.init`."""

    def __init__(self, journal: RunJournal, reporter: Reporter, *, experiment: str, leads: bool) -> None:
        """leads: whether this process starts and ends the run, as rank 0 does."""
        self._journal = journal
        self._reporter = reporter
        self.leads = leads
        """Whether this process starts and ends the run."""
        self._tags: tuple[str, ...] = ()
        self._finished = False
        self._sent = False
        self._write_token = ""
        self._on_finish: list[Callable[[str], None]] = []
        self._going_on_at = 0
        """The first step after a rewind."""
        self.id = journal.run_id
        """Its id; of the caller or made by init."""
        self.experiment = experiment
        """The experiment's id; empty when none was named."""
        self.attempt = journal.attempt
        """The number of this start of the run."""
        self.config = RunConfig(self._change_to, reporter)
        """What it is configured with: a dict whose changes are sent."""
        self.summary = RunSummary(reporter)
        """Final metrics: what it is to be judged by, sent when it ends. They replace the last values in summaries."""

    # ------------------------------------------------------------ logging

    def log(self, metrics: Mapping[str, object], step: int | None = None, *, time: object = None) -> None:
        """Logs numbers by name. What it has returned for survives the process, whatever becomes of it.

        metrics: Python, NumPy or PyTorch numbers; nested dicts get names joined by "/". step: None: one after the last.
        time: seconds since 1970 or a datetime with its time zone; None: now.
        """
        try:
            self._journal.append(metrics, step, int(clock.time() * 1000) if time is None else values.clean_time(time))
        except Exception:  # noqa: BLE001 - whatever a value does, the slow way finds out and says it
            self._log_slowly(metrics, step, time)

    def _log_slowly(self, metrics: object, step: object, time: object) -> None:
        """For what `log` could not simply take."""
        try:
            if self._finished:
                return self._mistake(f"log() was called after run {self.id} had finished; this is not logged")
            numbers, problems = values.clean_metrics(metrics)
            for name, problem in problems.items():
                self._mistake(problem, TypeError, key=f"metric {name}")
            whole = None if step is None else values.clean_step(step)
            time_ms = int(clock.time() * 1000) if time is None else values.clean_time(time)
        except Exception as problem:
            if self._reporter.raises:
                raise
            said = str(problem) if isinstance(problem, ValueError) else describe(problem)
            return self._reporter.warn(said, key="step or time")
        if numbers:
            self._append_parts(numbers, whole, time_ms)
        elif isinstance(metrics, Mapping) and not metrics:
            self._mistake("log() was given no metrics")
        return None

    def _append_parts(self, numbers: dict[str, float], step: int | None, time_ms: int) -> None:
        try:
            self._journal.append(numbers, step, time_ms)
        except TooWide:
            first, second = values.halves(numbers)
            step = self._journal.next_step() if step is None else step
            self._append_parts(first, step, time_ms)
            self._append_parts(second, step, time_ms)
        except Exception as error:  # noqa: BLE001 - whatever it is, training goes on
            self._reporter.warn(f"something could not be logged: {describe(error)}", key="not logged")

    # ------------------------------------------------------------ what is known of it

    @property
    def tags(self) -> tuple[str, ...]:
        """Labels that this process has given it. Setting them replaces all of its labels."""
        return self._tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        if self._change(lambda: requests.run_changes(tags=tags), paths=("tags",)):
            self._tags = tuple(requests.tag_list(tags))

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked it to stop (`tracker stop`): save a checkpoint, and finish."""
        return self._journal.stop_requested

    @property
    def write_token(self) -> str:
        """For reads that are to show this process's writes: of the last one that has arrived, empty before the first.

        After a finish that returned True, a read with it waits for everything that this process has logged.
        """
        return self._write_token if self._finished else self._journal.status().write_token

    @property
    def dropped_points(self) -> int:
        """Points of this process that found no room on disk; 0 unless a warning has said so."""
        return self._journal.dropped

    @property
    def directory(self) -> Path | None:
        """Where its journals are; None when nothing is kept."""
        return self._journal.directory

    def rewind(self, step: int) -> None:
        """Goes on from the checkpoint of a step: what earlier attempts have logged beyond it is superseded, in every metric.

        It is kept, and read by attempt only. The next `log` without a step gets the one after it. To be called before
        anything beyond the step is logged: points of this very attempt stay. step: -1 where nothing is to stay.
        """
        if self._finished:
            return self._mistake(f"rewind() was called after run {self.id} had finished; it is not sent")
        try:
            last = values.clean_step(step)
        except Exception as problem:  # noqa: BLE001 - a step may be anything
            return self._reporter.mistake_is(problem)
        if last == values.MAX_STEP:
            return self._mistake(f"rewind() was given step {last}; nothing lies beyond that")
        if not self.attempt:
            return self._mistake("rewind() needs an attempt: points of attempt 0 would be superseded by it as well")
        logged = self._journal.next_step()
        if logged > last + 1 and logged != self._going_on_at:
            self._mistake(
                f"rewind({last}) was called after step {logged - 1} was logged; what this attempt has logged stays. "
                "Finish the run and init it again to supersede that too"
            )
        self._going_on_at = last + 1
        self._journal.go_on_from(last)
        if not self.leads:
            return None
        request = calls.RewindRunRequest(
            run_id=self.id,
            step=last,
            attempt=self.attempt,
            timestamp=requests.timestamp(int(clock.time() * 1000)),
        )
        return self._journal.send(Method.REWIND_RUN, request)

    def set_name(self, name: str) -> None:
        """A name for people, at most 256 characters."""
        self._change(lambda: requests.run_changes(name=name))

    def set_notes(self, notes: str) -> None:
        """Free text, at most 65,536 characters."""
        self._change(lambda: requests.run_changes(notes=notes))

    def log_metadata(self, metadata: Mapping[str, object]) -> None:
        """Free keys and values, merged by key."""
        self._change(lambda: requests.run_changes(metadata=metadata))

    def log_artifact(self, name: str, uri: str | Path) -> None:
        """Where something lies that the run has made. A path becomes a file:// URI. The thing itself is not moved."""

        def changes() -> calls.RunChanges:
            where = uri.expanduser().absolute().as_uri() if isinstance(uri, Path) else uri
            return requests.run_changes(artifacts={name: where})

        self._change(changes)

    def add_tags(self, *tags: str) -> None:
        """Gives it more labels; those that it has stay."""
        added = requests.tag_list(tags)
        if added and self._change(lambda: requests.run_changes(tags=added), paths=_tag_paths(added)):
            self._tags = tuple(dict.fromkeys([*self._tags, *added]))

    def remove_tags(self, *tags: str) -> None:
        """Takes labels away from it, whoever gave them."""
        removed = requests.tag_list(tags)
        if removed and self._change(requests.run_changes, paths=_tag_paths(removed)):
            self._tags = tuple(tag for tag in self._tags if tag not in removed)

    def set_group(self, group: str, *, parent: str | None = None) -> None:
        """A name that it shares with the runs it belongs with. parent: the run that it is a part of; None: as it was."""
        paths = ("group",) if parent is None else ("group", "parent_run_id")
        self._change(lambda: requests.run_changes(group=group, parent=parent or ""), paths)

    def define_metric(
        self,
        name: str,
        *,
        goal: Literal["minimize", "maximize", ""] = "",
        x: str = "",
        unit: str = "",
        description: str = "",
    ) -> None:
        """Says what a metric means, for all runs of the experiment.

        name: of the metric; or the beginning of several and "*". goal: which of two values is the better one. x: the
        metric that is its x axis; empty: the step.
        """
        if self._finished:
            return self._mistake(f"run {self.id} has finished; what is defined afterwards is not sent")
        try:
            definition = requests.metric_definition(name, goal, x, unit, description)
        except Exception as error:  # noqa: BLE001 - what it was given may be anything
            return self._reporter.mistake_is(error)
        request = calls.UpdateExperimentRequest(
            experiment_id=self.experiment or _DEFAULT_EXPERIMENT,
            changes=calls.ExperimentChanges(metric_definitions=[definition]),
            timestamp=requests.timestamp(int(clock.time() * 1000)),
        )
        return self._journal.send(Method.UPDATE_EXPERIMENT, request)

    def keep_tags(self, tags: Iterable[str]) -> None:
        """Labels that have been sent with the start already."""
        self._tags = tuple(tags)

    def _change_to(self, changes: calls.RunChanges, paths: tuple[str, ...] = ()) -> None:
        self._change(lambda: changes, paths)

    def _change(self, make: Callable[[], calls.RunChanges], paths: tuple[str, ...] = ()) -> bool:
        """Sends changes; whether it did. paths: of the fields to be replaced; empty: what is not empty is merged."""
        if self._finished:
            self._mistake(f"run {self.id} has finished; what was changed afterwards is not sent")
            return False
        try:
            changes = make()
        except Exception as error:  # noqa: BLE001 - what it was given may be anything
            self._reporter.mistake_is(error)
            return False
        request = calls.UpdateRunRequest(
            run_id=self.id,
            changes=changes,
            attempt=self.attempt,
            timestamp=requests.timestamp(int(clock.time() * 1000)),
        )
        request.update_mask.paths.extend(paths)
        self._journal.send(Method.UPDATE_RUN, request)
        return True

    # ------------------------------------------------------------ its end

    def finish(self, status: Status = "completed", *, timeout: float = DEFAULT_FINISH_SECONDS, error: str = "") -> bool:
        """Ends this process's part of the run, and waits until all of it has arrived, at most timeout seconds.

        The process that leads (rank 0) ends the run with it. error: what went wrong, for people. Returns whether all
        has arrived; what has not is on disk, and a warning says how to send it. Calling it again does nothing, and
        returns the same.
        """
        if self._finished:
            return self._sent
        if status not in _STATUSES:
            self._mistake(f"status is {status!r}; it must be one of {', '.join(_STATUSES)}; taken as failed")
            status = "failed"
        try:
            for call in self._on_finish:
                call(status)
            if self.leads:
                self._send_end(status, error)
        except Exception as problem:  # noqa: BLE001 - the end of training is no time to raise
            self._reporter.warn(f"the end of run {self.id} could not be logged: {describe(problem)}")
        self._finished = True
        exits.remove(self)
        outcome = wait_until_sent(self._journal, timeout)
        self._sent = outcome.sent
        self._write_token = outcome.write_token
        if outcome.message:
            self._reporter.warn(outcome.message)
        return outcome.sent

    def _send_end(self, status: str, error: str) -> None:
        request = calls.RunCompletedRequest(
            run_id=self.id,
            experiment_id=self.experiment,
            status=_STATUSES[status],
            final_metrics=self.summary.numbers(),
            metadata=requests.texts({_ERROR: error} if error else {}),
            timestamp=requests.timestamp(int(clock.time() * 1000)),
            attempt=self.attempt,
            reason=requests.notes_text(error),
        )
        self._journal.send(Method.RUN_COMPLETED, request)

    def end(self, reason: str, error: str, timeout: float | None) -> None:
        """See exits.Exiting."""
        ended: Status = "failed"
        for known in ("completed", "cancelled", "preempted"):
            ended = known if known == reason else ended
        self.finish(ended, timeout=DEFAULT_FINISH_SECONDS if timeout is None else timeout, error=error)

    def interrupt(self) -> None:
        """See exits.Exiting."""
        self._journal.interrupt()

    def forked(self) -> None:
        """See exits.Exiting. The child has a journal of its own, once it logs; the run is the parent's to end."""
        self.leads = False
        self._on_finish.clear()
        self._journal.forked()

    def before_finish(self, call: Callable[[str], None]) -> None:
        """Calls this with its status when it ends, before its end is logged."""
        self._on_finish.append(call)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.finish()
        elif isinstance(error, KeyboardInterrupt):
            self.finish("cancelled", error=describe(error))
        else:
            self.finish("failed", error=describe(error))

    def __reduce__(self) -> tuple[Callable[..., Run], tuple[object, ...]]:
        """In another process (spawn), the same run with a journal of its own."""
        from tracker_client.start import join

        return join, (self._journal.settings, self.id, self.experiment, self.attempt)

    def __repr__(self) -> str:
        return f"Run(id={self.id!r}, experiment={self.experiment!r}, attempt={self.attempt})"

    def _mistake(self, message: str, kind: type[Exception] = ValueError, key: str | None = None) -> None:
        self._reporter.mistake_is(kind(message), key)


def _tag_paths(tags: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"tags.{tag}" for tag in tags)
