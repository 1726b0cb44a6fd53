"""URLs without the credentials in them."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def without_credentials(url: str) -> str:
    """The URL without user, password, query and fragment; of ssh the user stays, which is no secret.

    What is no URL (`git@host:path`, a path) is returned as it is.
    """
    if "://" not in url:
        return url
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    if parts.scheme.endswith("ssh") and login:
        host = f"{login.partition(':')[0]}@{host}"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
