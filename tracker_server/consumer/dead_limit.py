"""When to stop rather than to go on: a consumer that finds nearly everything dead is more likely wrong itself."""

from __future__ import annotations

from collections import deque

WINDOW = 1_000
"""Writes looked back on."""
LEAST = 100
"""Fewer dead writes than this never stop a consumer."""
RATIO = 0.9
"""Share of dead writes in the window at which a consumer stops."""


class DeadLimit:
    """Counts good and dead writes over a sliding window."""

    def __init__(self) -> None:
        self._window: deque[tuple[int, int]] = deque()
        self._good = 0
        self._dead = 0

    def note(self, good: int, dead: int) -> None:
        """Notes what became of a flush's writes."""
        self._window.append((good, dead))
        self._good += good
        self._dead += dead
        while len(self._window) > 1 and self._good + self._dead - sum(self._window[0]) >= WINDOW:
            old_good, old_dead = self._window.popleft()
            self._good -= old_good
            self._dead -= old_dead

    @property
    def reached(self) -> bool:
        """Whether nearly everything is dead."""
        return self._dead >= LEAST and self._dead >= RATIO * (self._good + self._dead)
