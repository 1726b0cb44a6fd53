"""What runs beside training in a thread: recording where it runs, once, and how the machine is used, now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import Final

from tracker_client.captures import METADATA_CAPTURES, SystemSampler, capture, this_process
from tracker_client.exits import describe
from tracker_client.ranks import Place
from tracker_client.reporter import Reporter
from tracker_client.run import Run
from tracker_client.run_journal import RunJournal
from tracker_client.settings import BadSetting, Mode

SYSTEM: Final = "system"
"""The name that switches system metrics on or off."""
LEAST_SYSTEM_SECONDS: Final = 1.0


def start_captures(
    run: Run,
    journal: RunJournal,
    wanted: bool | Collection[str],
    place: Place,
    system_seconds: float,
    reporter: Reporter,
) -> None:
    """Begins to capture. Texts are captured by the process that leads, system metrics by one process of each machine."""
    names = _names(wanted, reporter)
    texts = tuple(name for name in names if name != SYSTEM) if run.leads else ()
    samples = SYSTEM in names and place.local_rank == 0
    if journal.settings.mode is Mode.DISABLED or not (texts or samples):
        return
    stop = threading.Event()
    prefix = f"node{place.node}/" if place.node else ""

    def work() -> None:
        try:
            if texts:
                run.log_metadata(capture(texts, facts))
            if samples:
                _sample(journal, prefix, max(system_seconds, LEAST_SYSTEM_SECONDS), stop)
        except Exception as error:  # noqa: BLE001 - it is an extra, and training goes on without it
            reporter.warn(f"capturing ended: {describe(error)}")

    facts = this_process()
    thread = threading.Thread(target=work, name="tracker-captures", daemon=True)

    def end() -> None:
        stop.set()
        thread.join(_JOIN_SECONDS)

    run.before_finish(end)
    thread.start()


_JOIN_SECONDS: Final = 1.0
"""How long the end of a run waits for its captures."""


def _sample(journal: RunJournal, prefix: str, seconds: float, stop: threading.Event) -> None:
    """Logs a sample every so many seconds, the first one after a short while, so that short runs have one too."""
    sampler = SystemSampler()
    number = 0
    wait = LEAST_SYSTEM_SECONDS
    while not stop.wait(wait):
        sample = sampler.sample()
        if prefix:
            sample = {name.replace("/", f"/{prefix}", 1): value for name, value in sample.items()}
        if sample:
            journal.append_apart(sample, number, int(time.time() * 1000))
            number += 1
        wait = seconds


def _names(wanted: bool | Collection[str], reporter: Reporter) -> tuple[str, ...]:
    known = (*METADATA_CAPTURES, SYSTEM)
    if isinstance(wanted, bool):
        return known if wanted else ()
    listed = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in listed:
        if name not in known:
            reporter.mistake(lambda: BadSetting(f"capture has {name!r}; there are {', '.join(known)}"), key=name)  # noqa: B023 - called at once
    return tuple(name for name in listed if name in known)
