"""An address that passes connections on to another one: what is behind it comes within reach in an instant."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def forwarder(address: str, to: str) -> Iterator[None]:
    """Listens at an address, and passes on all that comes to it. When it ends, so do its connections."""
    sockets: list[socket.socket] = []
    with socket.create_server(_parts(address), backlog=64) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):  # closed
                while True:
                    near, _ = listener.accept()
                    far = socket.create_connection(_parts(to))
                    sockets.extend((near, far))
                    for source, target in ((near, far), (far, near)):
                        threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _parts(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)
