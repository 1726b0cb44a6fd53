"""Bounds what a subscriber holds in bytes, which AMQP's windows, counted in messages, cannot."""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Readable(Protocol):
    """A connection whose reading can be held up."""

    def pause_reading(self) -> None:
        """Reads nothing more."""

    def resume_reading(self) -> None:
        """Reads again."""


class Brake:
    """Reads no more from the broker while too many bytes are unacknowledged."""

    def __init__(self, most: int) -> None:
        """most: bytes."""
        self._most = most
        self._connection: Readable | None = None
        self._waiting: deque[tuple[int, int]] = deque()
        self.held = 0
        """Bytes unacknowledged."""
        self.paused = False
        """Whether reading is held up."""

    def begin(self, connection: Readable) -> None:
        """A new session: nothing is held."""
        self.end()
        self._connection = connection

    def end(self) -> None:
        """The session is over: its deliveries come again."""
        self._connection = None
        self._waiting.clear()
        self.held, self.paused = 0, False

    def delivered(self, tag: int, size: int) -> None:
        """A message of so many bytes has come."""
        self._waiting.append((tag, size))
        self.held += size
        if self.held > self._most and not self.paused and self._connection is not None:
            self.paused = True
            self._connection.pause_reading()

    def acknowledged(self, tag: int) -> None:
        """This message was acknowledged, and all before it."""
        while self._waiting and self._waiting[0][0] <= tag:
            self.held -= self._waiting.popleft()[1]
        if self.paused and self.held <= self._most // 2 and self._connection is not None:
            self.paused = False
            self._connection.resume_reading()
