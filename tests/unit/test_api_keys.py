"""Which calls a server with API keys lets in, and that keys stay secret."""

from __future__ import annotations

import pytest

from tracker_server.config import Settings, load_settings
from tracker_server.errors import BadSetting, InvalidApiKey, TrackerError, Unauthenticated
from tracker_server.grpc.address import is_loopback
from tracker_server.grpc.api_keys import ApiKeys

_KEYS = ("swordfish", "sw:rd/f+sh==")


def test_without_keys_everybody_is_let_in() -> None:
    for metadata in (None, (), (("authorization", "Bearer nonsense"),)):
        ApiKeys().check(metadata)


@pytest.mark.parametrize(
    "value", ["Bearer swordfish", "bearer swordfish", "BEARER  swordfish ", "Bearer sw:rd/f+sh==", b"Bearer swordfish"]
)
def test_each_key_is_let_in(value: str | bytes) -> None:
    ApiKeys(_KEYS).check((("user-agent", "x"), ("authorization", value)))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, Unauthenticated),
        ("", Unauthenticated),
        ("Bearer", Unauthenticated),
        ("Bearer ", Unauthenticated),
        ("swordfish", Unauthenticated),
        ("Basic swordfish", Unauthenticated),
        ("Bearer Swordfish", InvalidApiKey),
        ("Bearer swordfis", InvalidApiKey),
        ("Bearer swordfishes", InvalidApiKey),
        ("Bearer swordfish,sw:rd/f+sh==", InvalidApiKey),
        ("Bearer \u00fc", InvalidApiKey),
        (b"Bearer \xff", InvalidApiKey),
    ],
)
def test_nobody_else_is(value: str | bytes | None, error: type[TrackerError]) -> None:
    metadata = () if value is None else (("authorization", value),)
    with pytest.raises(error) as caught:
        ApiKeys(_KEYS).check(metadata)
    assert not any(key in str(caught.value) for key in _KEYS)


def test_keys_come_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().api_key_list == ()
    monkeypatch.setenv("TRACKER_API_KEYS", " one, two,,three\n")
    assert load_settings().api_key_list == ("one", "two", "three")


@pytest.mark.parametrize("keys", ["sword fish", "fine,schwertfisch\u00fc", ",", " , "])
def test_wrong_keys_are_refused_without_showing_them(keys: str) -> None:
    with pytest.raises(BadSetting, match="api_keys") as caught:
        load_settings(api_keys=keys)
    assert "sword" not in str(caught.value)
    assert "schwert" not in str(caught.value)


def test_settings_do_not_show_their_keys() -> None:
    assert "swordfish" not in repr(Settings(api_keys="swordfish"))


@pytest.mark.parametrize(("certificate", "key"), [("cert.pem", ""), ("", "key.pem")])
def test_tls_needs_both_files(certificate: str, key: str) -> None:
    with pytest.raises(BadSetting, match=r"tls_cert is .* and tls_key is .*; give both, or neither"):
        load_settings(tls_cert=certificate, tls_key=key)


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.1.2.3:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("example.com:1", False),
        ("10.0.0.1:1", False),
    ],
)
def test_loopback(listen: str, loopback: bool) -> None:
    assert is_loopback(listen) is loopback
