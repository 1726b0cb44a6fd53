"""How a process ends, and what its runs are told: the end of the script, an exception, a signal, a fork."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import weakref
from types import FrameType, TracebackType
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
        self.runs: weakref.WeakSet[Any] = weakref.WeakSet()
        self.reason = "completed"
        self.error = ""
        self._installed = False
        self._pid = os.getpid()

    def add(self, run: Exiting) -> None:
        if not self._installed:
            self._installed = True
            atexit.register(self._at_exit)
            os.register_at_fork(after_in_child=self._after_fork)
            self._watch_exceptions()
            self._watch_exit()
            self._watch_sigterm()
        self.runs.add(run)

    def remove(self, run: Exiting) -> None:
        self.runs.discard(run)

    def _end_all(self, timeout: float | None) -> None:
        for run in list(self.runs):
            run.end(self.reason, self.error, timeout)

    def _at_exit(self) -> None:
        self._end_all(None)

    def _after_fork(self) -> None:
        for run in list(self.runs):
            run.forked()

    def _watch_exceptions(self) -> None:
        before = sys.excepthook

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            self.reason = "cancelled" if issubclass(kind, KeyboardInterrupt) else "failed"
            self.error = describe(error)
            before(kind, error, trace)

        sys.excepthook = hook

    def _watch_exit(self) -> None:
        before = sys.exit

        def leave(status: object = None, /) -> None:
            # No hook sees a SystemExit, and a script that ends with an error code has not completed.
            if status not in (None, 0):
                self.reason, self.error = "failed", f"exit: {status}"
            before(status)  # type: ignore[arg-type]  # as it was given

        sys.exit = leave  # type: ignore[assignment]  # it does not return either

    def _watch_sigterm(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
            return

        def handler(number: int, frame: FrameType | None) -> None:
            own = os.getpid() == self._pid
            if own:
                self.reason, self.error = "preempted", "SIGTERM"
            if callable(before):
                # Theirs decides what happens; if the process ends, its runs were preempted.
                before(number, frame)
                return
            if own:
                for run in list(self.runs):
                    run.interrupt()
                self._end_all(PREEMPTED_SECONDS)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGTERM, handler)


exits: Final = _Exits()
"""Of this process."""


def describe(error: BaseException) -> str:
    """An exception in a line."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
