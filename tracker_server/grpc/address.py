"""Where a server listens: the address taken apart, looked at, and bound, or a clear word why not."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from typing import Final

import grpc

from tracker_server.errors import BadSetting

_MAX_PORT: Final = 65_535
_TAKEN: Final = frozenset({errno.EADDRINUSE, errno.EACCES})


async def bind(
    server: grpc.aio.Server,
    listen: str,
    setting: str,
    credentials: grpc.ServerCredentials | None = None,
    *,
    share_port: bool = False,
) -> str:
    """Binds HOST:PORT, port 0 for a free one, and returns the address that it really is. With credentials: TLS.

    share_port: others who do so too may listen on it (the option grpc.so_reuseport of the server).

    Raises BadSetting, which names the setting and says why it cannot be.
    """
    host, separator, port = listen.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > _MAX_PORT:
        raise BadSetting(f"{setting} is {listen!r}; it must be HOST:PORT, with port 0 for a free one")
    trouble = await _trouble(host.strip("[]"), int(port), share_port=share_port)
    bound = 0
    if not trouble:
        try:
            bound = server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
        except RuntimeError:
            trouble = "grpc could not bind it"
    if not bound:
        raise BadSetting(f"{setting} is {listen!r}, on which it is not possible to listen: {trouble}")
    return f"{host}:{bound}"


def is_loopback(listen: str) -> bool:
    """Whether HOST:PORT can be reached from this machine only. Of names only localhost counts."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _trouble(host: str, port: int, *, share_port: bool) -> str:
    """Why an address cannot be listened on, which grpc does not say; and grpc is content with one of several."""
    if not port:
        return ""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        return str(error)
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as grpc does
                if share_port:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno in _TAKEN:
                return error.strerror or str(error)
    return ""
