"""`init`: from what a script, the environment and the launcher say, to a run that takes metrics."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

from tracker.v1 import tracker_service_pb2 as calls
from tracker_client import requests
from tracker_client.background import start_captures
from tracker_client.config import ConfigError, from_config
from tracker_client.exits import describe, exits
from tracker_client.ids import new_run_id, usable_id
from tracker_client.journal.frames import Method
from tracker_client.ranks import Place, find_place, shared_attempt
from tracker_client.reporter import OnError, Reporter
from tracker_client.resume import Resume, run_exists
from tracker_client.run import Run
from tracker_client.run_journal import RunJournal
from tracker_client.settings import BadSetting, Mode, Settings, load_settings, with_overrides

DEFAULT_SYSTEM_SECONDS: Final = 15.0
"""Between two samples of system metrics."""


def init(
    experiment: str = "",
    *,
    config: object = None,
    name: str = "",
    tags: Iterable[str] = (),
    notes: str = "",
    metadata: Mapping[str, object] | None = None,
    run_id: str = "",
    resume: Literal["must", "allow", "never"] = "allow",
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
    typed), a dataclass or a namespace. resume: "must" and "never" ask the server whether the run is there, for a few
    seconds at most. attempt, rank: for several processes of one run, see docs/client.md. server, api_key, directory,
    mode: in place of TRACKER_SERVER, TRACKER_API_KEY, TRACKER_DIR, TRACKER_MODE. capture: what to record of where the
    run runs (git, host, process, packages, system), all or none; system_seconds: between two samples of system
    metrics. on_error: "raise" has mistakes in the use of this library raised (ValueError, TypeError); by default each
    is reported once, and training goes on.
    """
    reporter = Reporter(OnError.WARN)
    try:
        reporter = Reporter(OnError(on_error))
        settings = with_overrides(
            load_settings(),
            server=server,
            api_key=api_key,
            directory=directory,
            mode=mode,
            attempt=attempt,
            rank=rank,
        )
        place = find_place(settings)
        experiment = _id("experiment", experiment, reporter)
        named = _id("run_id", run_id or settings.run_id, reporter)
        if named:
            named = _resumed(settings, named, Resume(resume), reporter)
        shared = bool(named) and place.world > 1
        journal = RunJournal(settings, named or new_run_id(), _attempt(settings, named, place, shared), reporter)
        run = Run(journal, reporter, experiment=experiment, leads=not shared or place.rank == 0)
        if run.leads:
            _send_start(run, journal, config, name, tags, notes, metadata, reporter)
        exits.add(run)
        start_captures(run, journal, capture, place, system_seconds, reporter)
    except Exception as error:
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


def _id(what: str, text: str, reporter: Reporter) -> str:
    usable = usable_id(text)
    if usable != text:
        reporter.mistake(
            lambda: BadSetting(
                f"{what} is {text!r}; it must be of letters, digits, '.', '_' and '-', at most 128; {usable!r} is used"
            )
        )
    return usable


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


def _attempt(settings: Settings, run_id: str, place: Place, shared: bool) -> int:
    if settings.attempt is not None:
        return settings.attempt
    if shared and settings.mode is not Mode.DISABLED:
        return shared_attempt(settings.directory, run_id, place)
    return time.time_ns() // 1_000_000


def _send_start(
    run: Run,
    journal: RunJournal,
    config: object,
    name: str,
    tags: Iterable[str],
    notes: str,
    metadata: Mapping[str, object] | None,
    reporter: Reporter,
) -> None:
    request = calls.StartRunRequest(
        run_id=run.id,
        experiment_id=run.experiment,
        name=requests.label(name),
        tags=requests.tag_list(tags),
        metadata=requests.texts(metadata or {}),
        attempt=run.attempt,
        timestamp=requests.timestamp(time.time_ns() // 1_000_000),
    )
    if config is not None:
        try:
            message, changed = requests.config_message(config)
            request.config.CopyFrom(message)
            run.config.keep(from_config(message))
            if changed:
                reporter.warn(f"config: sent as text, having no other form: {', '.join(changed[:10])}")
        except ConfigError as error:
            reporter.mistake_is(error)
    run.keep_tags(request.tags)
    journal.send(Method.START_RUN, request)
    if notes:
        run.set_notes(notes)
