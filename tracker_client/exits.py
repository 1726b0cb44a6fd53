"""How a process ends, and what its runs are told: the end of the script, an exception, a signal, a fork."""

from __future__ import annotations

import atexit
import builtins
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Protocol

PREEMPTED_SECONDS: Final = 5.0
"""How long SIGTERM waits for what was logged to arrive: clusters kill soon after."""


class Exiting(Protocol):
    """A run, as far as the end of its process is concerned."""

    def end(self, reason: str, error: str, timeout: float | None) -> None:
        """The process ends. reason: completed, failed, cancelled or preempted. timeout: None for the default."""

    def interrupt(self) -> None:
        """A signal handler has interrupted whatever it was doing, and will not return to it."""

    def forked(self) -> None:
        """This is the child of a fork."""


class _Exits:
    """The hooks of this process, put in place once."""

    def __init__(self) -> None:
        # Held fast: a script may forget its run, and the run is to be ended all the same.
        self.runs: dict[Exiting, int] = {}
        """Each with the process that it was made in."""
        self.reason = "completed"
        self.error = ""
        self._installed = False
        self._watches_sigterm = False

    def add(self, run: Exiting) -> None:
        if not self._installed:
            self._installed = True
            atexit.register(self._at_exit)
            os.register_at_fork(after_in_child=self._after_fork)
            self._watch_exits()
        if not self._watches_sigterm and threading.current_thread() is threading.main_thread():
            self._watches_sigterm = True
            self._watch_sigterm()
        self.runs[run] = os.getpid()

    def remove(self, run: Exiting) -> None:
        self.runs.pop(run, None)

    def _at_exit(self) -> None:
        reason, error = self.reason, self.error
        # Set by Python for whatever has ended a script, and whoever has replaced sys.excepthook. A session of the
        # interactive kind has it of long ago.
        uncaught = getattr(sys, "last_value", None)
        if isinstance(uncaught, BaseException) and reason != "preempted" and not hasattr(sys, "ps1"):
            reason = "cancelled" if isinstance(uncaught, KeyboardInterrupt) else "failed"
            error = describe(uncaught)
        for run in list(self.runs):
            run.end(reason, error, None)

    def _after_fork(self) -> None:
        self.reason, self.error = "completed", ""
        for run in list(self.runs):
            run.forked()

    def _watch_exits(self) -> None:
        """No hook sees a SystemExit, and a script that ends with an error code has not completed."""
        sys.exit = self._noting(sys.exit)  # type: ignore[assignment]  # it does not return either
        for name in ("exit", "quit"):
            # Not there under python -S.
            if hasattr(builtins, name):
                setattr(builtins, name, self._noting(getattr(builtins, name)))

    def _noting(self, leave: Any) -> Callable[..., None]:
        def noting(code: object = None, /) -> None:
            in_main = threading.current_thread() is threading.main_thread()
            if code not in (None, 0) and in_main and self.reason != "preempted":
                self.reason, self.error = "failed", f"exit: {code}"
            leave(code)

        return noting

    def _watch_sigterm(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        if before in (signal.SIG_IGN, None):
            return

        def handler(number: int, frame: FrameType | None) -> None:
            own = [run for run, pid in self.runs.items() if pid == os.getpid()]
            if own:
                self.reason, self.error = "preempted", "SIGTERM"
            if callable(before):
                # Theirs decides what happens; if the process ends, its runs were preempted.
                before(number, frame)
                return
            try:
                deadline = time.monotonic() + PREEMPTED_SECONDS
                for run in own:
                    run.interrupt()
                for run in own:
                    run.end(self.reason, self.error, max(0.0, deadline - time.monotonic()))
            finally:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGTERM, handler)


exits: Final = _Exits()
"""Of this process."""


def describe(error: BaseException) -> str:
    """An exception in a line."""
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001 - it is an exception of the script's, and may do anything
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
