"""TLS of the server: its certificate and key, from files."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from tracker_server.errors import BadSetting


def server_credentials(certificate: str, key: str) -> grpc.ServerCredentials | None:
    """The credentials of a certificate (with its chain) and its key, both PEM files; None without files: plaintext.

    Raises BadSetting for files that cannot be read or do not belong together, of which grpc would say nothing.
    """
    if not certificate:
        return None
    try:
        # An encrypted key has no one to ask for its password: an empty one fails instead of waiting at a terminal.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
        return grpc.ssl_server_credentials([(Path(key).read_bytes(), Path(certificate).read_bytes())])
    except OSError as error:
        what = error.strerror or str(error)
        if isinstance(error, ssl.SSLError):
            what = f"they are no PEM certificate and its unencrypted key ({error.reason or error})"
        message = f"TRACKER_TLS_CERT is {certificate!r} and TRACKER_TLS_KEY is {key!r}: {what}"
        raise BadSetting(message) from None
