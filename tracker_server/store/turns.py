"""A lock that is given in the order in which it was asked for."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """For threads. A context manager; not reentrant.

    Neither threading.Lock nor SQLAlchemy's pool has an order: a thread that gives one up and asks again at once has it
    back before those that wait are even awake, so that compactions kept a purge waiting for half a minute.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:
            self._withdraw(turn)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._mutex:
            self._pass_on()

    def _pass_on(self) -> None:
        """It stays taken, unless nobody waits."""
        if self._waiting:
            self._waiting.popleft().release()
        else:
            self._taken = False

    def _withdraw(self, turn: threading.Lock) -> None:
        """A waiter was interrupted, by a signal: whether its turn had come in that moment or not."""
        with self._mutex:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                self._pass_on()
