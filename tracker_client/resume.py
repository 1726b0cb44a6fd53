"""Whether a run is there already, asked in a process of its own, so that grpc's threads never get into training.

`python -m tracker_client.resume SERVER RUN` prints yes, no or unknown.
"""

from __future__ import annotations

import subprocess
import sys
from enum import Enum
from typing import Final

from tracker_client.child import child_environment
from tracker_client.settings import Settings

WAIT_SECONDS: Final = 5.0
"""How long init waits for the answer."""
_CALL_SECONDS: Final = 3.0


class Resume(Enum):
    """What is expected of a run's id."""

    ALLOW = "allow"
    """Nothing: a run that is there is resumed, another one is started."""
    MUST = "must"
    """It must be there."""
    NEVER = "never"
    """It must not be there."""


def run_exists(settings: Settings, run_id: str) -> bool | None:
    """Whether the server has a run; None when that is not to be found out in time."""
    try:
        asked = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", "tracker_client.resume", settings.server, run_id],
            env=child_environment(settings.api_key),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=WAIT_SECONDS,
            check=False,
            text=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return {"yes": True, "no": False}.get(asked.stdout.strip())


def main(server: str, run_id: str) -> str:
    """Asks the server."""
    from tracker_client.client import TrackerClient
    from tracker_client.errors import NotFound, TrackerError

    with TrackerClient(server, timeout=_CALL_SECONDS) as client:
        try:
            client.get_run(run_id)
        except NotFound:
            return "no"
        except TrackerError:
            return "unknown"
    return "yes"


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]))
