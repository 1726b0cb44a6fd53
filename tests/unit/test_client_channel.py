"""Where the client looks for its server, and what it refuses to look for."""

from __future__ import annotations

import pytest

from tracker_client.channel import CHANNEL_OPTIONS, Endpoint, endpoint
from tracker_client.settings import BadSetting
from tracker_server.grpc.server import OPTIONS


@pytest.mark.parametrize(
    ("server", "target", "tls"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051", False),
        ("tracker.example.com:1", "tracker.example.com:1", False),
        ("[::1]:65535", "[::1]:65535", False),
        ("http://host:50051", "host:50051", False),
        ("grpc://host:50051/", "host:50051", False),
        ("https://host:443", "host:443", True),
        ("GRPCS://[fe80::1%eth0]:443", "[fe80::1%eth0]:443", True),
    ],
)
def test_servers(server: str, target: str, tls: bool) -> None:
    assert endpoint(server, "") == Endpoint(target, tls)


@pytest.mark.parametrize(
    "server",
    [
        "",
        "host",
        "host:",
        ":50051",
        "host:0",
        "host:65536",
        "host:http",
        "https://host",
        "https://host:443/path",
        "https://user@host:443",
        "ftp://host:21",
        "://host:1",
        "::1:50051",
        "two words:1",
    ],
)
def test_what_is_no_server_is_refused_by_name(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSetting, match=r"^server is .*; it must be HOST:PORT"):
        endpoint(server)
    if server:
        monkeypatch.setenv("TRACKER_SERVER", server)
        with pytest.raises(BadSetting, match=r"^TRACKER_SERVER is .*; it must be HOST:PORT"):
            endpoint()


def test_the_environment_is_asked_for_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACKER_SERVER", raising=False)
    monkeypatch.delenv("TRACKER_API_KEY", raising=False)
    assert endpoint() == Endpoint("127.0.0.1:50051")
    monkeypatch.setenv("TRACKER_SERVER", "https://there:443")
    monkeypatch.setenv("TRACKER_API_KEY", "swordfish\n")
    assert endpoint() == Endpoint("there:443", True, "swordfish")
    assert endpoint("here:1", "other") == Endpoint("here:1", False, "other")
    assert endpoint("here:1", "") == Endpoint("here:1")
    monkeypatch.setenv("TRACKER_SERVER", " ")
    assert endpoint().target == "127.0.0.1:50051"


def test_a_key_goes_along_and_is_not_shown() -> None:
    with_key = endpoint("host:1", "swordfish")
    assert with_key.metadata == (("authorization", "Bearer swordfish"),)
    assert "swordfish" not in repr(with_key)
    assert endpoint("host:1", "").metadata == ()


@pytest.mark.parametrize("key", ["sword fish", "schwertfisch\u00fc", "a\nb", "a\0b"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(BadSetting, match=r"^api_key has characters") as caught:
        endpoint("host:1", key)
    assert key not in str(caught.value)


def test_pings_are_no_more_frequent_than_servers_permit() -> None:
    client, server = dict(CHANNEL_OPTIONS), dict(OPTIONS)
    assert client["grpc.keepalive_time_ms"] >= 2 * server["grpc.http2.min_ping_interval_without_data_ms"]
    assert server["grpc.keepalive_permit_without_calls"] == 1
