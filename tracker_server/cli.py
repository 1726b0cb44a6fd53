"""The command line: `tracker_server up | serve | consume | migrate | compact | purge | backup | doctor | dead`.

Settings come from TRACKER_…
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tracker_server import __version__, roles
from tracker_server.backup import back_up
from tracker_server.bootstrap import Parts
from tracker_server.broker.dead_letters import DeadLetters
from tracker_server.compact import compact_all, compact_run
from tracker_server.config import Settings, check_roles, load_settings
from tracker_server.consumer.flusher import ConsumerStopped
from tracker_server.doctor import examine
from tracker_server.errors import BrokerUnavailable, TrackerError
from tracker_server.garbage import search_seldom
from tracker_server.logs import set_up_logging
from tracker_server.purge import purge as purge_by_hand
from tracker_server.store.engine import sqlite_path

EXIT_FAILED = 1
"""Something is wrong that a person must see to."""
EXIT_STOPPED = 3
"""The consumer stopped by itself: nearly everything was dead."""

_EPILOG = (
    "Every setting is an environment variable TRACKER_<NAME>: "
    + ", ".join(f"TRACKER_{name.upper()}" for name in Settings.model_fields)
    + ". docs/operations.md says what each is for."
)
app = typer.Typer(
    name="tracker_server",
    help="The experiment tracker's server side. Without settings: everything in one process, data in ./tracker.db.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
dead_app = typer.Typer(help="Writes that could not be stored: look at them, and send them again.", no_args_is_help=True)
app.add_typer(dead_app, name="dead")


@app.command()
def up() -> None:
    """Server and consumer in one process."""
    settings = _settings(all_in_one=True)
    _run(roles.up(settings, lambda address: _announce(settings, address)))


@app.command()
def serve() -> None:
    """The gRPC server: takes writes to the broker, answers reads."""
    settings = _settings(all_in_one=False)
    _run(roles.serve(settings, lambda address: typer.echo(f"listening on {address}")))


@app.command()
def consume() -> None:
    """The consumer: from the broker to the database."""
    _run(roles.consume(_settings(all_in_one=False)))


@app.command()
def migrate() -> None:
    """Bring the database to this version's revision."""
    parts = Parts(_settings(all_in_one=True))
    try:
        typer.echo(f"database at revision {parts.store.migrate()}")
    except TrackerError as error:
        _fail(error)
    finally:
        parts.store.close()


@app.command()
def compact(
    run: Annotated[str, typer.Option(help="Only this run.", metavar="RUN")] = "",
) -> None:
    """Merge small chunks into large ones by hand. Safe beside everything else, and may be interrupted."""
    parts = Parts(_settings(all_in_one=True))
    try:
        store = parts.store
    except TrackerError as error:
        _fail(error)
    try:
        store.check()
        done = compact_run(store, run) if run else compact_all(store)
    except TrackerError as error:
        _fail(error)
    finally:
        store.close()
    typer.echo(f"{done.parts:,} small chunks became {done.chunks:,}, with {done.points:,} points")


@app.command()
def purge(
    now: Annotated[str, typer.Option(help="Only this deleted run, at once.", metavar="RUN")] = "",
    experiment: Annotated[
        str, typer.Option(help="Only this deleted experiment with its runs, at once.", metavar="EXPERIMENT")
    ] = "",
) -> None:
    """Apply retention, and purge what was deleted longer ago than TRACKER_RESTORE_DAYS.

    Safe beside everything else, and may be interrupted: the next purge goes on.
    """
    if now and experiment:
        _fail("give --now or --experiment, not both")
    parts = Parts(_settings(all_in_one=True))
    try:
        store = parts.store
    except TrackerError as error:
        _fail(error)
    try:
        store.check()
        swept = asyncio.run(purge_by_hand(parts, run_id=now, experiment_id=experiment))
    except TrackerError as error:
        _fail(error)
    finally:
        store.close()
    typer.echo(
        f"{swept.runs:,} runs and {swept.experiments:,} experiments purged, {swept.points:,} points removed; "
        f"by retention {swept.deleted:,} runs deleted, and {swept.thinned:,} without their points"
    )


@app.command()
def backup(file: Annotated[Path, typer.Argument(help="A file that does not exist yet.")]) -> None:
    """Copy the embedded form's database while it is at work. docs/operations.md says how to restore it."""
    settings = _settings(all_in_one=True)
    if not settings.database_is_sqlite:
        _fail("PostgreSQL is backed up with pg_dump; docs/operations.md says how")
    try:
        size = back_up(sqlite_path(settings.database_url), file.absolute())
    except TrackerError as error:
        _fail(error)
    typer.echo(f"{file}: {size:,} bytes")


@app.command()
def doctor() -> None:
    """Check every configured part; say what is wrong and what to do."""
    findings = asyncio.run(examine(_settings(all_in_one=True)))
    for finding in findings:
        typer.echo(f"{'ok   ' if finding.fine else 'WRONG'} {finding.part}: {finding.text}")
        if finding.remedy:
            typer.echo(f"      {finding.remedy}")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@dead_app.command("list")
def dead_list(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, oldest first.")] = 100,
) -> None:
    """List dead letters, oldest first. They stay where they are."""
    with _dead_letters() as letters:
        found = letters.list(limit)
    for letter in found:
        write = f"{letter.scope_id} {letter.writer_id} {letter.sequence}" if letter.scope_id else "(whole message)"
        typer.echo(f"{letter.id}  {letter.died_at or '-'}  partition {letter.partition}  {write}  {letter.reason}")
    typer.echo(f"{len(found)} dead letter{'' if len(found) == 1 else 's'}", err=True)


@dead_app.command("show")
def dead_show(letter_id: Annotated[str, typer.Argument(help="As `dead list` prints it.")]) -> None:
    """Show one dead letter with its write."""
    with _dead_letters() as letters:
        text = letters.show(letter_id)
    if text is None:
        _fail(f"no dead letter {letter_id!r}; `tracker_server dead list` lists them")
    typer.echo(text)


@dead_app.command("replay")
def dead_replay(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="As `dead list` prints them.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Send dead letters to their queues again, for a consumer that can store them. Stored twice is stored once."""
    if bool(letter_ids) is everything:
        _fail("name the letters to replay, or give --all")
    with _dead_letters() as letters:
        counts = letters.replay(None if everything else letter_ids)
    typer.echo(f"{counts.replayed} replayed, {counts.refused} refused, {counts.missing} not found")


@contextmanager
def _dead_letters() -> Iterator[DeadLetters]:
    """Dead letters of the configured broker; broker errors become messages."""
    settings = _settings(all_in_one=True)
    if settings.broker_is_memory:
        _fail("the in-process broker keeps no dead letters: what cannot be stored is refused to its caller")
    try:
        yield DeadLetters(settings)
    except BrokerUnavailable as error:
        _fail(error)


def main() -> None:
    """Runs the command line."""
    app()


def _settings(*, all_in_one: bool) -> Settings:
    try:
        settings = load_settings()
        check_roles(settings, all_in_one=all_in_one)
    except TrackerError as error:
        _fail(error)
    set_up_logging(settings)
    return settings


def _run(work: Coroutine[Any, Any, None]) -> None:
    search_seldom()
    try:
        asyncio.run(work)
    except ConsumerStopped as error:
        typer.echo(f"tracker_server: {error}", err=True)
        raise typer.Exit(EXIT_STOPPED) from None
    except TrackerError as error:
        _fail(error)


def _fail(error: object) -> NoReturn:
    typer.echo(f"tracker_server: {error}", err=True)
    raise typer.Exit(EXIT_FAILED)


def _announce(settings: Settings, address: str) -> None:
    data = sqlite_path(settings.database_url) if settings.database_is_sqlite else "PostgreSQL"
    method = "tracker.v1.TrackerService/LogMetric"
    scheme, buf, grpcurl = (
        ("https", "", "") if settings.tls_cert else ("http", " --http2-prior-knowledge", " -plaintext")
    )
    key = " -H 'authorization: Bearer KEY'" if settings.api_key_list else ""
    point = '{"run_id": "hello", "name": "loss", "value": 0.5}'
    typer.echo(
        f"""The tracker listens on {address}; its data is in {data}. Ctrl-C ends it.
Log a point:
  .venv/bin/buf curl --protocol grpc{buf}{key} -d '{point}' {scheme}://{address}/{method}
  grpcurl{grpcurl}{key} -d '{point}' {address} {method}"""
    )
    sys.stdout.flush()
