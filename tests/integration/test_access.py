"""API keys and TLS as callers see them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.good_requests import GOOD
from tests.grpc_front import Front, failure, reason_of, running_front
from tracker.v1 import tracker_service_pb2 as public
from tracker_server.config import load_settings
from tracker_server.doctor import examine
from tracker_server.errors import BadSetting
from tracker_server.grpc.handlers import SERVICE
from tracker_server.grpc.tls import server_credentials

_ROOT = Path(__file__).resolve().parents[2]
_KEY = (("authorization", "Bearer swordfish"),)
_CALL_WITH_CLIENT = (
    "import sys; from tracker_client.client import TrackerClient;"
    "print(TrackerClient(sys.argv[1], timeout=float(sys.argv[2])).get_server_info().version)"
)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with running_front(api_keys=["swordfish"]) as front:
        yield front


@pytest.mark.parametrize("rpc", list(GOOD))
async def test_every_call_of_the_service_needs_a_key(front: Front, rpc: str) -> None:
    async with front.channel() as channel:
        method: Any = channel.unary_unary(f"/{SERVICE.full_name}/{rpc}")
        # Bytes that are no request: the key is asked for before anybody looks at them.
        for body in (b"\xff", GOOD[rpc].SerializeToString()):
            error = await failure(method(body, timeout=20))
            assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
            error = await failure(method(body, timeout=20, metadata=(("authorization", "Bearer cod"),)))
            assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_API_KEY")
        assert not front.publisher.messages
        assert not front.reads.deadlines
        assert reason_of(await failure(method(b"\xff", timeout=20, metadata=_KEY))) == "INVALID_REQUEST"
        if rpc == "WatchRuns":
            # It goes on for as long as its caller wants: what it gives shows that it is let in.
            front.watches.answers = [public.WatchRunsResponse(revision="here")]
            stream: Any = channel.unary_stream(f"/{SERVICE.full_name}/{rpc}")
            call = stream(GOOD[rpc].SerializeToString(), timeout=20, metadata=_KEY)
            assert await call.read() == front.watches.answers[0].SerializeToString()
            call.cancel()
        else:
            await method(GOOD[rpc].SerializeToString(), timeout=20, metadata=_KEY)


async def test_health_needs_none(front: Front) -> None:
    async with front.channel() as channel:
        answer = await HealthStub(channel).Check(HealthCheckRequest())
        assert answer.status == HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Signs the server's certificate."""
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> tuple[str, str]:
    """The server's certificate and its key."""
    issued = authority.issue_cert("localhost")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    return str(certificate), str(key)


async def _call(server: str, seconds: float, **environment: str) -> tuple[int | None, str]:
    """From a process of its own: grpc reads the authorities to trust once."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CALL_WITH_CLIENT, server, str(seconds)),
        env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'generated'}", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_tls(files: tuple[str, str], authority: trustme.CA, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    authority.cert_pem.write_to_path(roots)
    trusting = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots), "TRACKER_API_KEY": "swordfish"}
    async with running_front(api_keys=["swordfish"], credentials=server_credentials(*files)) as front:
        server = f"localhost:{front.address.rpartition(':')[2]}"
        trusted, stranger, plain = await asyncio.gather(
            _call(f"https://{server}", 20, **trusting),
            _call(f"grpcs://{server}", 0.7),
            _call(server, 0.7, **trusting),
        )
    assert trusted == (0, "1.2.3\n")
    for code, output in (stranger, plain):
        assert code == 1
        assert "tracker_client.errors." in output


async def test_files_that_are_no_certificate_are_named(files: tuple[str, str], tmp_path: Path) -> None:
    certificate, key = files
    assert server_credentials("", "") is None
    missing = str(tmp_path / "missing.pem")
    for pair, what in (
        ((missing, key), "No such file"),
        ((certificate, missing), "No such file"),
        ((key, certificate), "no PEM certificate and its unencrypted key"),
    ):
        with pytest.raises(BadSetting, match=f"TRACKER_TLS_CERT is '{pair[0]}' and TRACKER_TLS_KEY is .*{what}"):
            server_credentials(*pair)


@pytest.mark.parametrize(
    ("settings", "text", "remedy"),
    [
        ({}, "127.0.0.1:50051, plaintext, no API keys", ""),
        ({"api_keys": "swordfish"}, "127.0.0.1:50051, plaintext, 1 API key", ""),
        ({"listen": "0.0.0.0:1"}, "0.0.0.0:1, plaintext, no API keys", "TRACKER_API_KEYS"),
        ({"listen": "0.0.0.0:1", "api_keys": "a,b"}, "0.0.0.0:1, plaintext, 2 API keys", "TRACKER_TLS_CERT"),
    ],
)
async def test_the_doctor_tells_who_may_call(settings: dict[str, str], text: str, remedy: str, tmp_path: Path) -> None:
    findings = await examine(load_settings(database_url=f"sqlite:///{tmp_path / 'tracker.db'}", **settings))
    (access,) = [finding for finding in findings if finding.part == "access"]
    assert access.fine
    assert access.text.startswith(text)
    assert remedy in access.remedy
    assert bool(remedy) is bool(access.remedy)


async def test_the_doctor_sees_files_that_are_wrong(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    findings = await examine(load_settings(tls_cert=missing, tls_key=missing))
    (access,) = [finding for finding in findings if finding.part == "access"]
    assert not access.fine
    assert "No such file" in access.text
