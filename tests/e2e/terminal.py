"""The real `tracker` command: in a pipe, and on a terminal of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60
NOWHERE = "127.0.0.1:1"
"""An address at which nobody listens."""
COMMAND = str(Path(sys.executable).with_name("tracker"))
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    """On a terminal: what it shows, errors included, colours and cursor movements left out."""
    err: str = ""
    raw: str = ""
    """Of a terminal: every byte."""


def environment(address: str, **more: str) -> dict[str, str]:
    """Of a user's shell with the server set; warnings are errors."""
    # A size in the environment, as workers of tests have it, would count more than the terminal's own.
    others = ("TRACKER_", "NO_COLOR", "COLUMNS", "LINES")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return {**clean, "TRACKER_SERVER": address, "PYTHONWARNINGS": "error", "TZ": "UTC", **more}


def in_pipe(address: str, *arguments: str, cwd: Path | None = None, variables: Mapping[str, str] | None = None) -> Done:
    """Runs it with its output in pipes."""
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd,
        env=environment(address, **(variables or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def on_terminal(
    address: str,
    *arguments: str,
    width: int = 120,
    height: int = 40,
    variables: Mapping[str, str] | None = None,
) -> Done:
    """Runs it on a terminal of this size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    process = subprocess.Popen(
        [COMMAND, *arguments],
        env={**environment(address, **(variables or {})), "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    received = bytearray()
    # Linux says EIO when nobody has the other end any more.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 65_536):
            received += part
    os.close(ours)
    raw = received.decode()
    return Done(process.wait(SECONDS), _CODES.sub("", raw).replace("\r\n", "\n"), raw=raw)


def rows(text: str) -> list[dict[str, str]]:
    """Tab-separated lines with a header."""
    header, *lines = [line.split("\t") for line in text.splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def starting_with(lines: str, *starts: Sequence[str] | str) -> list[str]:
    """The lines that begin so, after any blanks."""
    return [line.strip() for line in lines.splitlines() if line.strip().startswith(tuple(map(str, starts)))]
