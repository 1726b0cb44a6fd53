"""The sender's process, as training starts it and keeps it alive."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tracker_client.child import child_environment
from tracker_client.sender.lock import sender_at_work

FIRST_PAUSE_SECONDS: Final = 3.0
"""Pause between two starts: a sender needs a moment until it has its lock. Doubles up to the longest."""
LONGEST_PAUSE_SECONDS: Final = 60.0


class SenderProcess:
    """Sees to it that a directory has a sender for a server."""

    def __init__(self, directory: Path, server: str, api_key: str, trouble: Callable[[str], None]) -> None:
        """trouble: is told, in words, when it cannot be started."""
        self._directory = directory
        self._server = server
        self._api_key = api_key
        self._trouble = trouble
        self._pause = FIRST_PAUSE_SECONDS
        self._start_at = 0.0
        self._launcher = 0
        """Its pid, until it has ended."""

    def wanted(self) -> None:
        """There is a new journal: whatever became of earlier senders, it gets one at once."""
        self._pause = FIRST_PAUSE_SECONDS
        self._start_at = 0.0

    def look_after(self) -> None:
        """Starts it if there is none. Waits for nothing."""
        now = time.monotonic()
        if (self._launcher and not self._ended()) or now < self._start_at:
            return
        try:
            if sender_at_work(self._directory, self._server):
                self._pause = FIRST_PAUSE_SECONDS
                return
            self._start_at = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            self._launcher = _launch(self._directory, self._server, self._api_key)
        except (OSError, ValueError) as error:
            self._trouble(f"the sender cannot be started ({error}); what is logged waits in {self._directory}")

    def _ended(self) -> bool:
        """Whether the launcher has; leaves no zombie."""
        try:
            pid, _ = os.waitpid(self._launcher, os.WNOHANG)
        except ChildProcessError:
            pid = self._launcher  # somebody in this process waits for any child
        if pid:
            self._launcher = 0
        return bool(pid)


def _launch(directory: Path, server: str, api_key: str) -> int:
    if not sys.executable:
        raise ValueError("this Python does not know its own program")
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "tracker_client.sender", str(directory.resolve()), server],
        # A directory that nobody will want to unmount.
        cwd="/",
        env=child_environment(api_key),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Ctrl-C at the terminal is meant for training; it tells its sender what to do by ending.
        start_new_session=True,
    )
    # It is waited for by its pid. Let go of without this, Popen warns that it still runs, when training ends early.
    process.returncode = 0
    return process.pid
