"""`init`: from what a script, the environment and the launcher say, to a run that takes metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

from tracker.v1 import tracker_service_pb2 as calls
from tracker_client import requests
from tracker_client.background import start_captures
from tracker_client.config import from_config
from tracker_client.endpoint import endpoint
from tracker_client.exits import describe, exits
from tracker_client.ids import new_run_id, usable_id
from tracker_client.journal.frames import Method
from tracker_client.keepers import keeper_for
from tracker_client.ranks import Place, find_place, leave_completed, shared_attempt
from tracker_client.reporter import OnError, Reporter
from tracker_client.resume import Resume, run_exists
from tracker_client.run import Run
from tracker_client.run_journal import RunJournal
from tracker_client.settings import BadSetting, Mode, Settings, load_settings, with_overrides

DEFAULT_SYSTEM_SECONDS: Final = 15.0
"""Between two samples of system metrics."""
_Value = TypeVar("_Value")


def init(
    experiment: str = "",
    *,
    config: object = None,
    name: str = "",
    tags: Iterable[str] = (),
    notes: str = "",
    metadata: Mapping[str, object] | None = None,
    group: str = "",
    parent: str = "",
    run_id: str = "",
    resume: Literal["must", "allow", "never"] = "allow",
    rewind_to: int | None = None,
    attempt: int | None = None,
    rank: int | None = None,
    server: str | None = None,
    api_key: str | None = None,
    directory: str | Path | None = None,
    mode: Literal["online", "offline", "disabled"] | None = None,
    capture: bool | Collection[str] = True,
    system_seconds: float = DEFAULT_SYSTEM_SECONDS,
    on_error: Literal["warn", "raise"] = "warn",
) -> Run:
    """Starts a run, or a new attempt of one. Waits for no server, and works the same when there is none.

    experiment, run_id: [A-Za-z0-9._-], at most 128 characters; without a run_id one is made. config: a dict (nested,
    typed), a dataclass or a namespace. group: a name that it shares with the runs it belongs with (folds, seeds);
    parent: the id of the run that it is a part of (a sweep). resume: "must" and "never" ask the server whether the run is
    there, for a few seconds at most. rewind_to: the step of the checkpoint that it goes on from, see Run.rewind. attempt,
    rank: for several processes of one run, see docs/client.md. server, api_key, directory,
    mode: in place of TRACKER_SERVER, TRACKER_API_KEY, TRACKER_DIR, TRACKER_MODE. capture: what to record of where the
    run runs (git, host, process, packages, system), all or none; system_seconds: between two samples of system
    metrics. on_error: "raise" has mistakes in the use of this library raised (ValueError, TypeError); by default each
    is reported once, and training goes on.
    """
    reporter = Reporter(_tried(lambda: OnError(on_error), OnError.WARN, Reporter(OnError.WARN)))
    begun: Run | None = None
    try:
        settings = with_overrides(
            load_settings(bad=reporter.mistake_is),
            server=server,
            api_key=api_key,
            directory=directory,
            mode=mode,
            attempt=attempt,
            rank=rank,
            bad=reporter.mistake_is,
        )
        settings = _reachable(settings, reporter)
        place = find_place(settings)
        experiment = _id("experiment", experiment, reporter)
        named = _id("run_id", run_id or settings.run_id, reporter)
        if named:
            named = _resumed(settings, named, _tried(lambda: Resume(resume), Resume.ALLOW, reporter), reporter)
        shared = bool(named) and place.world > 1
        journal = RunJournal(
            settings, named or new_run_id(), _attempt(settings, named, place, shared, reporter), reporter
        )
        run = Run(journal, reporter, experiment=experiment, leads=not shared or place.rank == 0)
        # Before anything is kept of it: whatever ends this process from now on also ends the run.
        exits.add(run)
        begun = run
        if run.leads:
            _send_start(run, journal, _Given(config, name, tags, notes, metadata, group, parent), reporter)
        if rewind_to is not None:
            run.rewind(rewind_to)
        if shared:
            _leave_completed(run, journal, place)
        start_captures(run, journal, capture, place, system_seconds, reporter)
    except Exception as error:
        if begun is not None:
            exits.remove(begun)
        if reporter.raises and isinstance(error, ValueError | TypeError):
            raise
        reporter.warn(f"init failed, and nothing of this run is kept: {describe(error)}")
        off = Settings(mode=Mode.DISABLED)
        return Run(RunJournal(off, new_run_id(), 0, reporter), reporter, experiment="", leads=False)
    return run


def join(settings: Settings, run_id: str, experiment: str, attempt: int) -> Run:
    """A run of another process, with a journal of this one's own. It neither starts the run nor ends it."""
    reporter = Reporter(OnError.WARN)
    run = Run(RunJournal(settings, run_id, attempt, reporter), reporter, experiment=experiment, leads=False)
    exits.add(run)
    return run


def _tried(make: Callable[[], _Value], otherwise: _Value, reporter: Reporter) -> _Value:
    """What is made of an argument; if nothing can be, that is reported, and training goes on."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - an argument may be anything
        reporter.mistake_is(error)
        return otherwise


def _id(what: str, given: object, reporter: Reporter) -> str:
    text = "" if given is None else str(given)
    usable = usable_id(text)
    if usable != text:
        reporter.mistake(
            lambda: BadSetting(
                f"{what} is {text!r}; it must be of letters, digits, '.', '_' and '-', at most 128; {usable!r} is used"
            )
        )
    return usable


def _reachable(settings: Settings, reporter: Reporter) -> Settings:
    """The settings; without a server when the address can be none."""
    if settings.mode is not Mode.ONLINE:
        return settings
    try:
        endpoint(settings.server, settings.api_key)
    except BadSetting as error:
        reporter.mistake_is(BadSetting(f"{error}; what is logged is kept, and `tracker sync` sends it"))
        return replace(settings, mode=Mode.OFFLINE)
    return settings


def _resumed(settings: Settings, run_id: str, resume: Resume, reporter: Reporter) -> str:
    """The id to be used, as what the server has allows it."""
    if resume is Resume.ALLOW or settings.mode is not Mode.ONLINE:
        return run_id
    exists = run_exists(settings, run_id)
    if exists is None:
        reporter.warn(
            f"resume={resume.value!r}: {settings.server} does not say whether run {run_id} is there; it is used"
        )
    elif resume is Resume.MUST and not exists:
        reporter.mistake(lambda: BadSetting(f"resume='must': the server has no run {run_id}; it is started anew"))
    elif resume is Resume.NEVER and exists:
        other = f"{run_id[:100]}-{new_run_id()}"
        reporter.mistake(
            lambda: BadSetting(f"resume='never': the server has a run {run_id}; {other} is started instead")
        )
        return other
    return run_id


def _attempt(settings: Settings, run_id: str, place: Place, shared: bool, reporter: Reporter) -> int:
    if settings.attempt is not None:
        return settings.attempt
    if shared and settings.mode is not Mode.DISABLED:
        try:
            return shared_attempt(keeper_for(settings).directory, run_id, place)
        except OSError as error:
            reporter.warn(f"the ranks of run {run_id} cannot agree on an attempt ({error}); set TRACKER_ATTEMPT")
    return time.time_ns() // 1_000_000


def _leave_completed(run: Run, journal: RunJournal, place: Place) -> None:
    def leave(status: str) -> None:
        if status == "completed" and journal.settings.attempt is None and journal.directory is not None:
            leave_completed(journal.directory, run.id, place, run.attempt)

    run.before_finish(leave)


@dataclass(frozen=True, slots=True)
class _Given:
    """What a script says of its run, not looked at yet."""

    config: object
    name: str
    tags: Iterable[str]
    notes: str
    metadata: Mapping[str, object] | None
    group: str
    parent: str


def _send_start(run: Run, journal: RunJournal, given: _Given, reporter: Reporter) -> None:
    request = calls.StartRunRequest(
        run_id=run.id,
        experiment_id=run.experiment,
        name=_tried(lambda: requests.label(given.name), "", reporter),
        tags=_tried(lambda: requests.tag_list(given.tags), list[str](), reporter),
        metadata=_tried(lambda: requests.texts(given.metadata or {}), dict[str, str](), reporter),
        group=_tried(lambda: requests.label(given.group), "", reporter),
        parent_run_id=_id("parent", given.parent, reporter),
        attempt=run.attempt,
        timestamp=requests.timestamp(time.time_ns() // 1_000_000),
    )
    if given.config is not None:
        made = _tried(lambda: requests.config_message(given.config), None, reporter)
        if made is not None:
            request.config.CopyFrom(made[0])
            run.config.keep(from_config(made[0]))
            if made[1]:
                reporter.warn(requests.sent_as_text(made[1]))
    run.keep_tags(request.tags)
    journal.send(Method.START_RUN, request)
    if given.notes:
        run.set_notes(given.notes)
