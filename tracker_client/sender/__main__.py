"""The sender as a process: `python -m tracker_client.sender DIRECTORY SERVER`. Started by a training process, never by hand.

It leaves its parent at once, so that it outlives it and nobody has to wait for it, and it ends by itself.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from tracker_client.sender.lock import handover_path, take_sender_lock

LINGER_SECONDS: Final = 10.0
"""How long it goes on without any success once no process writes any more. What is left then waits for the next."""
IDLE_SECONDS: Final = 1.0
"""How long it waits for another run once there is nothing left: scripts that make one after the other share it."""
HANDOVER_SECONDS: Final = 0.5
"""The same when `tracker sync` wants to send them."""
_LOG_BYTES: Final = 1024 * 1024
_log = logging.getLogger("tracker_client.sender")


def main(arguments: list[str]) -> int:
    """Sends until there is nothing left to do."""
    directory, server = Path(arguments[0]), arguments[1]
    if os.fork():
        # Our parent waits for this half only.
        os._exit(0)
    lock = take_sender_lock(directory, server)
    if lock is None:
        return 0
    _open_log(directory)
    # It was started by a thread that takes no signals.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # A cluster that ends a job signals all of its processes. This one ends when what was logged has arrived.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        _run(directory, server)
    except Exception:  # noqa: BLE001 - to the log with it: nobody else is there to see it
        _log.exception("the sender ended; the next one goes on")
        return 1
    return 0


def _run(directory: Path, server: str) -> None:
    # Late, since it imports grpc: another sender may have been at work already.
    from tracker_client.endpoint import endpoint
    from tracker_client.sender.courier import Courier

    courier = Courier(directory, endpoint(server), lambda identity: identity.server == server)
    handover = handover_path(directory, server)
    said = ""
    try:
        while True:
            courier.turn()
            if courier.message != said:
                said = courier.message
                _log.warning("%s: %s", server, said or "the server takes writes again")
            idle = time.monotonic() - courier.progressed_at
            if courier.owned:
                continue
            patience = LINGER_SECONDS if courier.pending else IDLE_SECONDS
            if idle > patience or (idle > HANDOVER_SECONDS and handover.exists()):
                break
    finally:
        courier.close()
    if courier.pending:
        _log.warning("%d journals are left for the next sender", len(courier.pending))


def _open_log(directory: Path) -> None:
    handler = RotatingFileHandler(directory / "sender.log", maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
