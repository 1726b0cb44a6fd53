"""A tracker of one's own for a while: the embedded form in a process beside, on a free port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STOP_SECONDS = 20


@contextmanager
def embedded_server(directory: Path) -> Iterator[str]:
    """Starts a tracker with its data in this directory, gives its address (HOST:PORT), and stops it at the end.

    Raises RuntimeError with what it logged when it does not start.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}
    environment["TRACKER_LISTEN"] = "127.0.0.1:0"
    environment["TRACKER_DATABASE_URL"] = f"sqlite:///{directory / 'tracker.db'}"
    log = directory / "tracker.log"
    command = [sys.executable, "-m", "tracker_server", "up"]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            announced = re.search(r"listens on (\S+);", process.stdout.readline())
            if announced is None:
                process.wait(_STOP_SECONDS)
                raise RuntimeError(f"the tracker did not start:\n{log.read_text()}")
            yield announced[1]
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
