"""A command's connection to the server, and what becomes of its errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from tracker_client.cli.exits import FAILED, INTERRUPTED, PIPE_CLOSED, USAGE, code_of, explain
from tracker_client.cli.texts import visible
from tracker_client.client import TrackerClient
from tracker_client.endpoint import endpoint
from tracker_client.errors import TrackerError
from tracker_client.settings import BadSetting

CONTACT_SECONDS = 3.0
"""How long a server may take to answer at all. Calls after that have the client's own, longer time."""


@contextmanager
def connection(server: str | None, api_key: str | None) -> Iterator[TrackerClient]:
    """A client of a server that answers. Errors within end the command: a message, and an exit code."""
    with failures(server), TrackerClient(server, api_key=api_key) as client:
        client.get_server_info(timeout=CONTACT_SECONDS)
        yield client


@contextmanager
def failures(server: str | None) -> Iterator[None]:
    """Errors of the client, of files and of pipes end the command: a message, and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads any more. Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None
    except (TrackerError, BadSetting) as error:
        fail(explain(error, _address(server)), code_of(error))
    except OSError as error:
        fail(f"{error.filename or 'output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Ends the command."""
    typer.echo(f"tracker: {visible(message)}", err=True)
    raise typer.Exit(code)


def misuse(message: str) -> NoReturn:
    """Ends the command: it cannot be used like this."""
    fail(message, USAGE)


def _address(server: str | None) -> str:
    try:
        return endpoint(server).target
    except BadSetting:
        return str(server)
