"""The threads that a training process has of us."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Final

_OF_FAULTS: Final = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGABRT,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
)
"""What a thread sends to itself."""


def start_thread(name: str, work: Callable[[], None]) -> threading.Thread:
    """Starts a daemon thread that takes no signals.

    A signal that the system gives to another thread does not wake the main one, and only there Python handles it: a
    training that sleeps or waits would get its SIGTERM too late.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    # A new thread has the mask of the one that starts it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _OF_FAULTS)
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread
